use std::sync::mpsc::{self, Receiver};

use pulseaudio::protocol::{
    CommandReply, PulseError, Request, read_command_message, write_command_message, write_error,
    write_memblock, write_reply_message,
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);
const MS: Duration = Duration::from_millis(1);
const CHANNEL: u32 = 7;

/// The server's end of a connection.
struct Server {
    socket: BufReader<UnixStream>,
    version: u16,
}

impl Server {
    /// A server and a client who does not know it yet.
    fn pair(version: u16) -> (Server, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let socket = BufReader::new(ours);
        (Server { socket, version }, theirs)
    }

    fn hear(&mut self) -> (u32, Command) {
        read_command_message(&mut self.socket, self.version).unwrap()
    }

    fn say(&mut self, command: &Command) {
        write_command_message(self.socket.get_mut(), u32::MAX, command, self.version).unwrap();
    }

    fn reply<R: CommandReply>(&mut self, sequence: u32, reply: &R) {
        write_reply_message(self.socket.get_mut(), sequence, reply, self.version).unwrap();
    }

    fn greet(&mut self) {
        let (sequence, Command::Auth(auth)) = self.hear() else {
            panic!("it does not begin with its cookie");
        };
        assert_eq!(auth.cookie, [5; 256]);
        let version = self.version;
        self.reply(
            sequence,
            &AuthReply {
                version,
                use_shm: false,
                use_memfd: false,
            },
        );
        let (sequence, Command::SetClientName(props)) = self.hear() else {
            panic!("it has no name");
        };
        assert_eq!(props.get(Prop::ApplicationName), Some(&b"Ringtrue\0"[..]));
        self.reply(sequence, &SetClientNameReply { client_id: 1 });
    }

    /// Takes a new microphone's stream, and says what its client wants of it.
    fn take_microphone(&mut self) -> RecordStreamParams {
        self.greet();
        let (sequence, Command::CreateRecordStream(params)) = self.hear() else {
            panic!("not a microphone");
        };
        let reply = CreateRecordStreamReply {
            channel: CHANNEL,
            ..CreateRecordStreamReply::default()
        };
        self.reply(sequence, &reply);
        params
    }

    fn take_speaker(&mut self, requested_bytes: u32) -> PlaybackStreamParams {
        self.greet();
        let (sequence, Command::CreatePlaybackStream(params)) = self.hear() else {
            panic!("not a speaker");
        };
        let reply = CreatePlaybackStreamReply {
            channel: CHANNEL,
            requested_bytes,
            ..CreatePlaybackStreamReply::default()
        };
        self.reply(sequence, &reply);
        params
    }

    fn send(&mut self, channel: u32, samples: &[f32]) {
        let bytes: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
        write_memblock(self.socket.get_mut(), channel, &bytes, 0).unwrap();
    }

    /// The samples of the next piece from a speaker.
    fn piece(&mut self) -> Vec<f32> {
        let descriptor = read_descriptor(&mut self.socket).unwrap();
        assert_eq!(descriptor.channel, CHANNEL);
        let mut bytes = vec![0; descriptor.length as usize];
        self.socket.read_exact(&mut bytes).unwrap();
        let (samples, rest) = bytes.as_chunks::<SAMPLE>();
        assert!(rest.is_empty());
        samples.iter().map(|s| f32::from_le_bytes(*s)).collect()
    }
}

fn connect(socket: UnixStream) -> Result<Connection, String> {
    Connection::greet(socket, vec![5; 256])
}

/// A client's microphone: its stream, what it took, and when it was lost.
struct Microphone {
    stream: Stream,
    taken: Receiver<Vec<f32>>,
    lost: Receiver<()>,
}

fn microphone(socket: UnixStream) -> Microphone {
    let (give, taken) = mpsc::channel();
    let (lose, lost) = mpsc::channel();
    let take = move |samples: &[f32]| give.send(samples.to_vec()).unwrap();
    let lose = move || lose.send(()).unwrap();
    let stream = connect(socket)
        .and_then(|connection| connection.record("mouth", take, lose))
        .unwrap();
    Microphone {
        stream,
        taken,
        lost,
    }
}

fn with_microphone(version: u16) -> (Server, Microphone) {
    let (mut server, socket) = Server::pair(version);
    let client = std::thread::spawn(move || microphone(socket));
    let params = server.take_microphone();
    assert_eq!(params.source_name.as_deref(), Some(c"mouth"));
    assert_eq!(params.buffer_attr.fragment_size, 72 * 4);
    assert!(params.flags.adjust_latency && !params.flags.start_corked);
    (server, client.join().unwrap())
}

#[test]
fn a_microphone_takes_what_comes_and_only_that() {
    for version in [MIN_VERSION, 22, MAX_VERSION] {
        let (mut server, microphone) = with_microphone(version);
        let first: Vec<f32> = (0..480).map(|n| n as f32 / 480.0).collect();
        server.send(CHANNEL, &first);
        server.send(CHANNEL + 1, &[1.0; 10]);
        server.say(&Command::Started(CHANNEL));
        server.send(CHANNEL, &[-0.5; 24]);
        assert_eq!(microphone.taken.recv_timeout(PATIENCE).unwrap(), first);
        assert_eq!(microphone.taken.recv_timeout(PATIENCE).unwrap(), [-0.5; 24]);
        assert!(microphone.lost.try_recv().is_err());
    }
}

/// cpal let a microphone's queue hold one piece: of two that came at once the server kept one.
#[test]
fn a_microphone_leaves_the_server_room_for_what_it_cannot_send_at_once() {
    let (mut server, socket) = Server::pair(MAX_VERSION);
    let client = std::thread::spawn(move || microphone(socket));
    let most = server.take_microphone().buffer_attr.max_length;
    assert_eq!(most, u32::MAX);
    client.join().unwrap();
}

#[test]
fn a_speaker_answers_every_request_in_full() {
    let (mut server, socket) = Server::pair(MAX_VERSION);
    let client = std::thread::spawn(move || {
        let mut said = 0.0;
        let fill = move |samples: &mut [f32]| {
            for sample in samples {
                *sample = said;
                said += 1.0;
            }
        };
        connect(socket)?.play("ear", Channels::Mono, 10 * MS, fill, || ())
    });
    let params = server.take_speaker(960);
    assert_eq!(params.sink_name.as_deref(), Some(c"ear"));
    assert_eq!(params.buffer_attr.minimum_request_length, 72 * 4);
    assert_eq!(params.buffer_attr.target_length, 480 * 4);
    assert_eq!(params.buffer_attr.pre_buffering, 0);
    assert_eq!(server.piece().len(), 240);
    let stream = client.join().unwrap().unwrap();
    for (channel, length) in [(CHANNEL + 1, 400), (CHANNEL, 960), (CHANNEL, 4)] {
        server.say(&Command::Request(Request { channel, length }));
    }
    let second = server.piece();
    assert_eq!((second.len(), second[0]), (240, 240.0));
    assert_eq!(server.piece(), [480.0]);

    stream.set_buffer(20 * MS);
    server.say(&Command::Request(Request {
        channel: CHANNEL,
        length: 8,
    }));
    let (_, Command::SetPlaybackStreamBufferAttr(wanted)) = server.hear() else {
        panic!("the buffer stays");
    };
    assert_eq!(wanted.index, CHANNEL);
    assert_eq!(wanted.buffer_attr.target_length, 960 * 4);
    assert_eq!(wanted.buffer_attr.pre_buffering, 0);
    assert!(wanted.early_requests);
    assert_eq!(server.piece(), [481.0, 482.0]);
}

#[test]
fn a_stream_that_the_server_ends_is_lost() {
    let (mut server, microphone) = with_microphone(MAX_VERSION);
    server.say(&Command::RecordStreamKilled(CHANNEL));
    microphone.lost.recv_timeout(PATIENCE).unwrap();

    let (server, microphone) = with_microphone(MAX_VERSION);
    drop(server);
    microphone.lost.recv_timeout(PATIENCE).unwrap();

    let (mut server, microphone) = with_microphone(MAX_VERSION);
    let descriptor = Descriptor {
        length: LONGEST + 1,
        channel: CHANNEL,
        offset: 0,
        flags: DescriptorFlags::empty(),
    };
    let mut bytes = [0; DESCRIPTOR_SIZE];
    encode_descriptor(&mut bytes, &descriptor);
    server.socket.get_mut().write_all(&bytes).unwrap();
    microphone.lost.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_stream_that_its_owner_ends_is_not_lost_and_leaves_the_server() {
    let (mut server, microphone) = with_microphone(MAX_VERSION);
    let Microphone { stream, lost, .. } = microphone;
    drop(stream);
    assert_eq!(server.socket.read(&mut [0]).unwrap(), 0);
    assert!(lost.recv_timeout(PATIENCE).is_err(), "it is told as lost");
}

#[test]
fn a_server_that_refuses_says_why() {
    let (mut server, socket) = Server::pair(MAX_VERSION);
    let client =
        std::thread::spawn(move || connect(socket)?.record("mouth", |_| (), || ()).map(drop));
    server.greet();
    let (sequence, _) = server.hear();
    write_error(server.socket.get_mut(), sequence, &PulseError::NoEntity).unwrap();
    let error = client.join().unwrap().unwrap_err();
    assert!(error.contains("NoEntity"), "{error}");

    let (mut server, socket) = Server::pair(MAX_VERSION);
    let client = std::thread::spawn(move || connect(socket).map(drop));
    let (sequence, _) = server.hear();
    let old = AuthReply {
        version: MIN_VERSION - 1,
        use_shm: false,
        use_memfd: false,
    };
    server.reply(sequence, &old);
    let error = client.join().unwrap().unwrap_err();
    assert!(error.contains("too old"), "{error}");
}
