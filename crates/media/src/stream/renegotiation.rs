//! New terms in the middle of a stream (RFC 3264 section 8).

use std::time::Instant;

use super::{MediaStream, StreamConfig, StreamError};

impl MediaStream {
    /// Goes on under new terms: other codecs, payload types or packet times. What is on its way
    /// under the old ones is still played. The CNAME stays, and so do the figures. When the clock of
    /// what we send changes, so does our SSRC (RFC 7160 section 4.1).
    ///
    /// After an error the old terms hold.
    pub fn renegotiate(&mut self, now: Instant, config: StreamConfig) -> Result<(), StreamError> {
        config.check()?;
        let old = &self.config;
        let same = config.send == old.send
            && config.send_fec == old.send_fec
            && config.send_channels == old.send_channels
            && config.ptime == old.ptime
            && config.redundancy.send == old.redundancy.send
            && config.dtx == old.dtx
            && config.comfort_noise.send == old.comfort_noise.send;
        if !same {
            let other_clock = config.send.0.clock_rate() != old.send.0.clock_rate();
            if other_clock && self.outgoing.packets > 0 {
                self.report(now, true);
                self.leave_ssrc();
            }
            self.outgoing
                .change(&config)
                .and_then(|()| self.outgoing.configure(&config.opus))
                .and_then(|()| self.outgoing.set_dtx(config.dtx, config.comfort_noise.send))
                .map_err(|error| StreamError::Opus(error.to_string()))?;
        }
        if same && config.opus != self.config.opus {
            self.outgoing
                .configure(&config.opus)
                .map_err(|error| StreamError::Opus(error.to_string()))?;
        }
        if !same || config.opus.dred_ms != self.config.opus.dred_ms {
            self.outgoing.set_dred(config.opus.dred_ms);
        }
        self.outgoing.set_telephone_event(config.telephone_event);
        self.incoming
            .renegotiate(config.payload_types(), config.telephone_event);
        self.incoming
            .take_redundancy_types(config.redundancy.receive);
        let cname = std::mem::take(&mut self.config.cname);
        let voip_metrics = config.voip_metrics || self.config.voip_metrics;
        self.config = StreamConfig {
            cname,
            voip_metrics,
            ..config
        };
        Ok(())
    }
}
