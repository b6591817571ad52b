//! Streams of a PulseAudio server (or of PipeWire, which speaks its language), by its own protocol.
//!
//! cpal finds the devices; what flows does not go through it, because of two things that it does to
//! such a stream. It lets a microphone's queue hold no more than one fragment, so the server throws
//! away what comes as two at once: where its clock happens to wake up every 20 ms, that is half of the
//! sound. And it asks the server for the latency after every piece, a round trip that costs more
//! than the piece.
//!
//! Each stream has a connection and a thread of its own, which sleeps in `read` until the server
//! has a piece or wants one.

use std::ffi::CString;
use std::io::{BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use pulseaudio::protocol::stream::{BufferAttr, StreamFlags};
use pulseaudio::protocol::{
    AuthParams, AuthReply, ChannelMap, Command, CommandReply, CreatePlaybackStreamReply,
    CreateRecordStreamReply, DESCRIPTOR_SIZE, Descriptor, DescriptorFlags, MAX_MEMBLOCKQ_LENGTH,
    MAX_VERSION, MIN_VERSION, PlaybackStreamParams, Prop, Props, ProtocolError, RecordStreamParams,
    SampleFormat, SampleSpec, SetClientNameReply, SetPlaybackStreamBufferAttrParams,
    encode_descriptor, read_command_message, read_descriptor, read_reply_message,
    write_command_message,
};

use super::OPENING;
use crate::{Channels, SAMPLE_RATE};

/// What mixers show.
const NAME: &str = "Ringtrue";
/// The channel of commands; the others are of streams.
const COMMANDS: u32 = u32::MAX;
/// The longest message that is read: what a server can hold of a stream.
const LONGEST: u32 = MAX_MEMBLOCKQ_LENGTH as u32;
const SAMPLE: usize = size_of::<f32>();
/// How much sound a microphone's server hands over at a time, and how much a speaker's asks for.
const PERIOD: Duration = Duration::from_micros(1_500);

/// A stream that runs until this is dropped.
#[derive(Debug)]
pub(super) struct Stream {
    socket: UnixStream,
    shared: Arc<Shared>,
}

/// What the owner tells the stream's thread.
#[derive(Debug)]
struct Shared {
    /// How much sound a speaker's server is to hold, in samples.
    buffer: AtomicU32,
    closing: AtomicBool,
}

impl Shared {
    fn new(buffer: u32) -> Arc<Shared> {
        Arc::new(Shared {
            buffer: AtomicU32::new(buffer),
            closing: AtomicBool::new(false),
        })
    }
}

impl Stream {
    /// From now on a speaker's server is to hold so much sound. Nothing is lost by that.
    pub(super) fn set_buffer(&self, buffer: Duration) {
        let buffer = samples_in(buffer);
        self.shared.buffer.store(buffer, Ordering::Relaxed);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        // The server forgets the streams of a connection that ends, and our thread's `read` returns.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Records mono sound at [`SAMPLE_RATE`] from the source of this name. Calls `take` for each piece,
/// and `lost` when the stream has ended.
pub(super) fn record(
    source: &str,
    take: impl FnMut(&[f32]) + Send + 'static,
    lost: impl FnOnce() + Send + 'static,
) -> Result<Stream, String> {
    Connection::open()?.record(source, take, lost)
}

/// Plays sound at [`SAMPLE_RATE`], of these channels in turns, to the sink of this name, whose server
/// holds so much of it. Calls `fill` for each piece, and `lost` when the stream has ended.
pub(super) fn play(
    sink: &str,
    channels: Channels,
    buffer: Duration,
    fill: impl FnMut(&mut [f32]) + Send + 'static,
    lost: impl FnOnce() + Send + 'static,
) -> Result<Stream, String> {
    Connection::open()?.play(sink, channels, buffer, fill, lost)
}

/// A microphone's buffer: as long as the server likes, so that it never throws sound away.
fn microphone_buffer() -> BufferAttr {
    BufferAttr {
        fragment_size: samples_in(PERIOD) * SAMPLE as u32,
        ..BufferAttr::default()
    }
}

/// A speaker's buffer of so many samples of each channel. When the sink has taken a period, the rest of
/// the buffer is the time in which we have to answer.
fn speaker_buffer(samples: u32, channels: Channels) -> BufferAttr {
    let moment = (SAMPLE * channels.count()) as u32;
    BufferAttr {
        target_length: samples * moment,
        minimum_request_length: samples_in(PERIOD) * moment,
        // What comes too late is left out: with any other value the server would wait for it, and
        // all that follows would be late from then on.
        pre_buffering: 0,
        ..BufferAttr::default()
    }
}

fn format(channels: Channels) -> SampleSpec {
    SampleSpec {
        format: SampleFormat::Float32Le,
        channels: channels.count() as u8,
        sample_rate: SAMPLE_RATE,
    }
}

fn samples_in(time: Duration) -> u32 {
    (f64::from(SAMPLE_RATE) * time.as_secs_f64()) as u32
}

fn c_string(name: &str) -> Result<CString, String> {
    CString::new(name).map_err(|_| "its name is not a name".to_owned())
}

/// What a server says about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A piece of this channel's sound, as [`Connection::payload`].
    Piece(u32),
    /// This channel wants so many bytes.
    Request(u32, u32),
    /// The server has ended the only stream.
    Killed,
    /// Nothing that matters here.
    Other,
}

struct Connection {
    socket: BufReader<UnixStream>,
    version: u16,
    sequence: u32,
    /// The message that was read last, with its descriptor.
    message: Vec<u8>,
}

impl Connection {
    /// Connects as `PULSE_SERVER` and the other variables say.
    fn open() -> Result<Connection, String> {
        let path = pulseaudio::socket_path_from_env().ok_or("no PulseAudio server is running")?;
        let socket = UnixStream::connect(path).map_err(|error| error.to_string())?;
        let cookie = pulseaudio::cookie_path_from_env();
        let cookie = cookie.and_then(|path| std::fs::read(path).ok());
        Connection::greet(socket, cookie.unwrap_or_default())
    }

    fn greet(socket: UnixStream, cookie: Vec<u8>) -> Result<Connection, String> {
        socket
            .set_read_timeout(Some(OPENING))
            .and_then(|()| socket.set_write_timeout(Some(OPENING)))
            .map_err(|error| error.to_string())?;
        let mut connection = Connection {
            socket: BufReader::new(socket),
            version: MAX_VERSION,
            sequence: 0,
            message: Vec::new(),
        };
        let auth: AuthReply = connection.ask(Command::Auth(AuthParams {
            version: MAX_VERSION,
            supports_shm: false,
            supports_memfd: false,
            cookie,
        }))?;
        if auth.version < MIN_VERSION {
            return Err("the PulseAudio server is too old".into());
        }
        connection.version = auth.version.min(MAX_VERSION);
        let mut props = Props::new();
        props.set(Prop::ApplicationName, c_string(NAME)?.as_c_str());
        let _: SetClientNameReply = connection.ask(Command::SetClientName(props))?;
        Ok(connection)
    }

    fn record(
        mut self,
        source: &str,
        mut take: impl FnMut(&[f32]) + Send + 'static,
        lost: impl FnOnce() + Send + 'static,
    ) -> Result<Stream, String> {
        let params = RecordStreamParams {
            sample_spec: format(Channels::Mono),
            channel_map: ChannelMap::mono(),
            source_name: Some(c_string(source)?),
            buffer_attr: microphone_buffer(),
            flags: StreamFlags {
                adjust_latency: true,
                ..StreamFlags::default()
            },
            ..RecordStreamParams::default()
        };
        let created: CreateRecordStreamReply = self.ask(Command::CreateRecordStream(params))?;
        let mut samples = Vec::new();
        let shared = Shared::new(0);
        self.serve(shared, lost, move |connection, event| {
            if event == Event::Piece(created.channel) {
                let (whole, _) = connection.payload().as_chunks::<SAMPLE>();
                samples.clear();
                samples.extend(whole.iter().map(|sample| f32::from_le_bytes(*sample)));
                take(&samples);
            }
            Ok(())
        })
    }

    fn play(
        mut self,
        sink: &str,
        channels: Channels,
        buffer: Duration,
        mut fill: impl FnMut(&mut [f32]) + Send + 'static,
        lost: impl FnOnce() + Send + 'static,
    ) -> Result<Stream, String> {
        let params = PlaybackStreamParams {
            sample_spec: format(channels),
            channel_map: match channels {
                Channels::Mono => ChannelMap::mono(),
                Channels::Stereo => ChannelMap::stereo(),
            },
            sink_name: Some(c_string(sink)?),
            buffer_attr: speaker_buffer(samples_in(buffer), channels),
            flags: StreamFlags {
                // The sink's own buffer holds a period then, and the whole of ours is beside it.
                early_requests: true,
                ..StreamFlags::default()
            },
            ..PlaybackStreamParams::default()
        };
        let created: CreatePlaybackStreamReply = self.ask(Command::CreatePlaybackStream(params))?;
        let index = created.channel;
        let mut samples = Vec::new();
        let mut piece = Vec::new();
        let mut answer = move |connection: &mut Connection, bytes: u32| {
            samples.clear();
            samples.resize(bytes.min(LONGEST) as usize / SAMPLE, 0.0);
            fill(&mut samples);
            piece.clear();
            piece.resize(DESCRIPTOR_SIZE, 0);
            piece.extend(samples.iter().flat_map(|sample: &f32| sample.to_le_bytes()));
            connection.send(index, &mut piece)
        };
        answer(&mut self, created.requested_bytes)?;
        let mut asked = samples_in(buffer);
        let shared = Shared::new(asked);
        let told = Arc::clone(&shared);
        self.serve(shared, lost, move |connection, event| {
            let wanted = told.buffer.load(Ordering::Relaxed);
            if wanted != asked {
                asked = wanted;
                let params = SetPlaybackStreamBufferAttrParams {
                    index,
                    buffer_attr: speaker_buffer(wanted, channels),
                    adjust_latency: false,
                    early_requests: true,
                };
                connection.command(&Command::SetPlaybackStreamBufferAttr(params))?;
            }
            if let Event::Request(channel, bytes) = event
                && channel == index
            {
                answer(connection, bytes)?;
            }
            Ok(())
        })
    }

    /// Sends a command, and says its number.
    fn command(&mut self, command: &Command) -> Result<u32, String> {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        write_command_message(self.socket.get_mut(), sequence, command, self.version)
            .map_err(reason)?;
        Ok(sequence)
    }

    fn ask<R: CommandReply>(&mut self, command: Command) -> Result<R, String> {
        let sequence = self.command(&command)?;
        self.read()?;
        let (answered, reply) =
            read_reply_message(&mut &self.message[..], self.version).map_err(reason)?;
        match answered == sequence {
            true => Ok(reply),
            false => Err("the PulseAudio server answers what was not asked".into()),
        }
    }

    /// Waits for a message, and says on which channel it came.
    fn read(&mut self) -> Result<u32, String> {
        self.message.resize(DESCRIPTOR_SIZE, 0);
        let socket = &mut self.socket;
        socket.read_exact(&mut self.message).map_err(ended)?;
        let descriptor = read_descriptor(&mut &self.message[..]).map_err(reason)?;
        if descriptor.length > LONGEST {
            return Err("the PulseAudio server sends too much at once".into());
        }
        let whole = DESCRIPTOR_SIZE + descriptor.length as usize;
        self.message.resize(whole, 0);
        let payload = &mut self.message[DESCRIPTOR_SIZE..];
        socket.read_exact(payload).map_err(ended)?;
        Ok(descriptor.channel)
    }

    fn payload(&self) -> &[u8] {
        self.message.get(DESCRIPTOR_SIZE..).unwrap_or_default()
    }

    fn next(&mut self) -> Result<Event, String> {
        let channel = self.read()?;
        if channel != COMMANDS {
            return Ok(Event::Piece(channel));
        }
        // What the library does not know is nothing that matters here.
        let command = read_command_message(&mut &self.message[..], self.version);
        Ok(match command {
            Ok((_, Command::Request(request))) => Event::Request(request.channel, request.length),
            Ok((_, Command::PlaybackStreamKilled(_) | Command::RecordStreamKilled(_))) => {
                Event::Killed
            }
            _ => Event::Other,
        })
    }

    /// Sends a piece, which has room for its descriptor before it.
    fn send(&mut self, channel: u32, piece: &mut [u8]) -> Result<(), String> {
        let length = piece.len().saturating_sub(DESCRIPTOR_SIZE) as u32;
        let descriptor = Descriptor {
            length,
            channel,
            offset: 0,
            flags: DescriptorFlags::empty(),
        };
        if let Some(room) = piece.first_chunk_mut() {
            encode_descriptor(room, &descriptor);
        }
        self.socket.get_mut().write_all(piece).map_err(ended)
    }

    /// Hands what the server says to `on_event`, on a thread of the stream's own, until it ends.
    fn serve(
        mut self,
        shared: Arc<Shared>,
        lost: impl FnOnce() + Send + 'static,
        mut on_event: impl FnMut(&mut Connection, Event) -> Result<(), String> + Send + 'static,
    ) -> Result<Stream, String> {
        let socket = self.socket.get_ref();
        let held = socket
            .set_read_timeout(None)
            .and_then(|()| socket.try_clone());
        let socket = held.map_err(|error| error.to_string())?;
        let mut run = move || -> Result<(), String> {
            loop {
                match self.next()? {
                    Event::Killed => return Err("the server has ended the stream".into()),
                    event => on_event(&mut self, event)?,
                }
            }
        };
        let told = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("pulse".into());
        let started = thread.spawn(move || {
            if let Err(error) = run()
                && !told.closing.load(Ordering::Relaxed)
            {
                tracing::debug!(%error, "sound device");
                lost();
            }
        });
        started.map_err(|error| error.to_string())?;
        Ok(Stream { socket, shared })
    }
}

fn ended(error: std::io::Error) -> String {
    format!("the PulseAudio server has left ({error})")
}

fn reason(error: ProtocolError) -> String {
    match error {
        ProtocolError::ServerError(error) => {
            format!("the PulseAudio server answers {error:?}")
        }
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
