//! Who wants VoIP metrics: `a=rtcp-xr` (RFC 3611 section 5) in offers and answers.

use ringtrue_sip::sdp::*;

const LINE: &str = "a=rtcp-xr:voip-metrics\r\n";

fn local(extended_reports: ExtendedReports) -> LocalMedia {
    LocalMedia {
        origin_user: "-".into(),
        session_id: 1,
        session_version: 1,
        rtp: "192.0.2.1:4000".parse().unwrap(),
        rtcp: None,
        ice: None,
        codecs: vec![RtpCodec {
            payload_type: 0,
            name: "PCMU".into(),
            clock_rate: 8_000,
            channels: 1,
            fmtp: None,
        }],
        accepted: Vec::new(),
        direction: Direction::SendRecv,
        rtcp_mux: true,
        ptime: None,
        brief: false,
        security: LocalSecurity::Off,
        crypto: Vec::new(),
        extended_reports,
    }
}

fn willing() -> LocalMedia {
    local(ExtendedReports::ALL)
}

fn unwilling() -> LocalMedia {
    local(ExtendedReports::default())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn parse(text: &str) -> SessionDescription {
    SessionDescription::parse(text.as_bytes()).unwrap()
}

#[test]
fn both_want_them_or_one_or_nobody() {
    for (caller, callee, asked, answered) in [
        (willing(), willing(), true, true),
        (unwilling(), willing(), false, true),
        (willing(), unwilling(), true, false),
        (unwilling(), unwilling(), false, false),
    ] {
        let offer = text(offer(&caller));
        assert_eq!(offer.contains(LINE), asked, "{offer}");
        let (answer, for_callee) = answer(&parse(&offer), &callee).unwrap();
        let answer = text(answer);
        assert_eq!(answer.contains(LINE), answered, "{answer}");
        // Who is asked sends them, whatever it wants itself.
        assert_eq!(for_callee.extended_reports.voip_metrics, asked);
        let for_caller = read_answer(&caller, &parse(&answer)).unwrap();
        assert_eq!(for_caller.extended_reports.voip_metrics, answered);
        // So it stays in a re-INVITE.
        let again = text(subsequent_offer(&parse(&answer), &caller));
        assert_eq!(again.contains(LINE), asked, "{again}");
    }
}

#[test]
fn it_is_found_among_other_formats_and_at_both_levels() {
    let wanted = |session: &str, media: &str| {
        let text =
            format!("v=0\r\nc=IN IP4 192.0.2.1\r\n{session}m=audio 4000 RTP/AVP 0\r\n{media}");
        let remote = read_offer(&parse(&text)).unwrap();
        remote.extended_reports.voip_metrics
    };
    let among =
        "a=rtcp-xr:pkt-loss-rle=200 rcvr-rtt=all:10000 voip-metrics stat-summary=loss,dup\r\n";
    assert!(wanted("", among) && wanted(among, ""));
    assert!(wanted("", "a=RTCP-XR: VoIP-Metrics x\r\n"));
    assert!(wanted(
        "",
        "a=rtcp-xr:rcvr-rtt=all\r\na=rtcp-xr:voip-metrics\r\n"
    ));
    // The stream's own counts, also one that asks for nothing.
    assert!(!wanted(among, "a=rtcp-xr:\r\n") && !wanted(among, "a=rtcp-xr\r\n"));
    assert!(!wanted(
        "",
        "a=rtcp-xr:voip-metricsx xvoip-metrics voip-metrics=1\r\n"
    ));
    assert!(!wanted("", "") && !wanted("", "a=rtcp-xr:=\r\na=rtcp-xr: \r\n"));
}
