//! FRAMES → READINGS, vendors' JavaScript: one uplink through a codec file as it is, in QuickJS, with nothing of the host.
//!
//! LoRaWAN vendors publish their decoders as JavaScript. Three ways of calling them are usual, and a file may have several:
//! `decodeUplink({ bytes, fPort, recvTime, variables })` (TS013 of the LoRa Alliance, ChirpStack 4, The Things Stack 3),
//! `Decode(fPort, bytes, variables)` (ChirpStack 3) and `Decoder(bytes, port)` (The Things Network 2); they are tried in this order.
//!
//! Each call has an engine of its own, which is thrown away behind it: no state is kept from one frame to the next, whatever
//! the script leaves behind, and one that runs wild takes nothing with it. The limits count work and bytes, and not the time on
//! the wall: a busy box decodes the same as an idle one. Behind them stands a limit of processor time for what no count reaches. `Date` stands still at the time of the uplink and `Math.random` begins with the same
//! number, so that a log that is played again says the same.

#[cfg(test)]
mod tests;

use crate::model::{Text, Timestamp};
use rquickjs::context::EvalOptions;
use rquickjs::{CatchResultExt, CaughtError, Context, Ctx, Function, Runtime};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// The longest script. The longest of the public catalogues has about 200 kB.
pub const SCRIPT_BYTES_MAX: usize = 1 << 20;

/// What one call may hold: the engine itself needs 0.3 MiB, a script of 200 kB with its tables about 4.
pub const MEMORY_MAX: usize = 32 << 20;

/// How deep calls go, in bytes of the engine's stack; a worker thread has 2 MiB.
pub const STACK_MAX: usize = 512 << 10;

/// How much one call may do, in steps of 10 000 jumps back and calls of functions, at which the engine asks whether to go on. The
/// codecs of the public catalogues need less than one.
pub const STEPS_MAX: u32 = 200;

/// How long one call may keep the processor, in nanoseconds of its own thread: other load does not count. The steps end an ordinary
/// loop after a tenth of a second; this is for one whose every step is a built-in call over megabytes, of which 10 000 pass before the
/// engine asks. It asks late (10 s were seen), and without this it would be half an hour.
const PROCESSOR_NANOS_MAX: u64 = 2_000_000_000;

/// The longest answer, as JSON. What a frame of 242 bytes says fits into a hundredth of it.
pub const ANSWER_BYTES_MAX: usize = 256 << 10;

/// The longest text of an error that is kept.
const MESSAGE_CHARS_MAX: usize = 300;

/// `console`, `module`, `exports`; the clock and the dice; the function that calls the codec.
const HOST: &str = include_str!("host.js");

/// Node's `Buffer`, and `atob`, `btoa`, `TextDecoder`, `TextEncoder`; read only for scripts that name one of them.
const BUFFER: &str = include_str!("buffer.js");

/// Names for which [`BUFFER`] is read.
const BUFFER_NAMES: [&str; 5] = ["Buffer", "atob", "btoa", "TextDecoder", "TextEncoder"];

/// One message of a device, as its network server gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Uplink<'a> {
    /// The application payload.
    pub bytes: &'a [u8],
    /// The `LoRaWAN` port.
    pub port: Option<u8>,
    /// When it was received: all that the codec can know of the present, and its `recvTime` unless the next says more.
    pub received_at: Timestamp,
    /// The network server's own words for it: `recvTime` is what the engine's `Date` makes of them.
    pub recv_time: Option<&'a str>,
    /// The settings of this device at its network server: a JSON object, often empty.
    pub variables: &'a serde_json::Value,
}

/// Why there is no answer. The frame goes to quarantine with it; the next one is decoded as ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The file is longer than [`SCRIPT_BYTES_MAX`]; its length.
    ScriptTooLong(usize),
    /// It is no JavaScript, or its top level failed; what the engine said.
    Script(String),
    /// It has none of the three functions.
    NoFunction,
    /// It threw; what.
    Threw(String),
    /// It did more than [`STEPS_MAX`] allows: most likely a loop without an end.
    TooMuchWork,
    /// It wanted more than [`MEMORY_MAX`].
    TooMuchMemory,
    /// Its answer is longer than [`ANSWER_BYTES_MAX`]; its length.
    AnswerTooLong(usize),
    /// The engine could not be started; why.
    Engine(String),
}

impl Refused {
    /// What happened and what to do, for a person.
    pub fn text(&self) -> Text {
        match self {
            Self::ScriptTooLong(length) => both(
                format!("解码脚本有 {length} 字节，最多 {SCRIPT_BYTES_MAX}"),
                format!("the codec has {length} bytes, at most {SCRIPT_BYTES_MAX}"),
            ),
            Self::Script(why) => {
                both(format!("解码脚本本身有错：{why}"), format!("the codec itself is wrong: {why}"))
            }
            Self::NoFunction => both(
                "解码脚本里没有 decodeUplink、Decode 或 Decoder 函数",
                "the codec has no function decodeUplink, Decode or Decoder",
            ),
            Self::Threw(what) => both(format!("解码脚本抛出：{what}"), format!("the codec threw: {what}")),
            Self::TooMuchWork => both(
                "解码脚本运行过久（可能死循环），已中止",
                "the codec went on without an end (a loop?) and was stopped",
            ),
            Self::TooMuchMemory => both(
                format!("解码脚本占用内存超过 {} MiB，已中止", MEMORY_MAX >> 20),
                format!("the codec wanted more than {} MiB and was stopped", MEMORY_MAX >> 20),
            ),
            Self::AnswerTooLong(length) => both(
                format!("解码结果有 {length} 字节，最多 {ANSWER_BYTES_MAX}"),
                format!("the answer has {length} bytes, at most {ANSWER_BYTES_MAX}"),
            ),
            Self::Engine(why) => {
                both(format!("脚本引擎无法启动：{why}"), format!("the engine could not be started: {why}"))
            }
        }
    }
}

fn both(zh: impl Into<Arc<str>>, en: impl Into<Arc<str>>) -> Text {
    Text { zh: zh.into(), en: en.into() }
}

/// A codec file that was read and has a function to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codec {
    script: String,
    needs_buffer: bool,
}

impl Codec {
    /// Reads the script once, to say at once what is wrong with it.
    ///
    /// # Errors
    ///
    /// It is too long, no JavaScript, fails at its top level, or has no function to call.
    pub fn new(script: impl Into<String>) -> Result<Self, Refused> {
        let script = script.into();
        if script.len() > SCRIPT_BYTES_MAX {
            return Err(Refused::ScriptTooLong(script.len()));
        }
        let needs_buffer = BUFFER_NAMES.iter().any(|name| script.contains(name));
        let codec = Self { script, needs_buffer };
        codec.call(None).map(|_| codec)
    }

    /// The codec's own answer as JSON, on one line; `null` for `undefined`.
    ///
    /// # Errors
    ///
    /// It threw, or a limit stopped it.
    pub fn decode(&self, uplink: &Uplink<'_>) -> Result<String, Refused> {
        self.call(Some((uplink, Wanted::Answer))).map(Option::unwrap_or_default)
    }

    /// What the codec says of the device, as JSON on one line: its answer, or of a TS013 answer the `data`.
    ///
    /// # Errors
    ///
    /// As [`Codec::decode`], or the codec lists `errors`.
    pub fn data(&self, uplink: &Uplink<'_>) -> Result<String, Refused> {
        self.call(Some((uplink, Wanted::Data))).map(Option::unwrap_or_default)
    }

    /// Without an uplink: is there anything to call?
    fn call(&self, uplink: Option<(&Uplink<'_>, Wanted)>) -> Result<Option<String>, Refused> {
        let engine = |error: rquickjs::Error| Refused::Engine(error.to_string());
        let runtime = Runtime::new().map_err(engine)?;
        runtime.set_memory_limit(MEMORY_MAX);
        runtime.set_max_stack_size(STACK_MAX);
        let steps = Rc::new(Cell::new(0_u32));
        let counted = steps.clone();
        let end = processor_nanos().saturating_add(PROCESSOR_NANOS_MAX);
        runtime.set_interrupt_handler(Some(Box::new(move || {
            let used_up = processor_nanos() > end;
            counted.set(if used_up { u32::MAX } else { counted.get().saturating_add(1) });
            counted.get() > STEPS_MAX
        })));
        let context = Context::full(&runtime).map_err(engine)?;
        context.with(|ctx| {
            let failed = |caught: CaughtError<'_>| {
                if steps.get() > STEPS_MAX {
                    return Refused::TooMuchWork;
                }
                let what = said(&caught);
                // The engine has no name for it that a script could not use as well; one that does is stopped just the same.
                if what.contains("out of memory") { Refused::TooMuchMemory } else { Refused::Threw(what) }
            };
            let caller: Function<'_> = eval(&ctx, HOST).map_err(&failed)?;
            if self.needs_buffer {
                eval::<()>(&ctx, BUFFER).map_err(&failed)?;
            }
            let script = self.script.trim_start_matches('\u{feff}');
            eval::<rquickjs::Value<'_>>(&ctx, script).map_err(|error| match failed(error) {
                Refused::Threw(why) => Refused::Script(why),
                limit => limit,
            })?;
            let question = match uplink {
                None => String::new(),
                Some((uplink, wanted)) => question(uplink, wanted),
            };
            let answer: Option<String> = caller.call((question,)).catch(&ctx).map_err(failed)?;
            match answer {
                None => Err(Refused::NoFunction),
                Some(answer) if answer.len() > ANSWER_BYTES_MAX => Err(Refused::AnswerTooLong(answer.len())),
                Some(answer) => Ok(uplink.map(|_| answer)),
            }
        })
    }
}

/// What this thread has used of the processor.
fn processor_nanos() -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanos = i128::from(used.tv_sec) * 1_000_000_000 + i128::from(used.tv_nsec);
    u64::try_from(nanos).unwrap_or(0)
}

/// As the global code of a page: functions and variables are the realm's, and nothing is strict unless the script says so.
fn eval<'js, V: rquickjs::FromJs<'js>>(ctx: &Ctx<'js>, script: &str) -> Result<V, CaughtError<'js>> {
    let mut options = EvalOptions::default();
    options.strict = false;
    ctx.eval_with_options(script, options).catch(ctx)
}

/// What of an answer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// All of it.
    Answer,
    /// What it says of the device.
    Data,
}

fn question(uplink: &Uplink<'_>, wanted: Wanted) -> String {
    serde_json::json!({
        "onlyData": wanted == Wanted::Data,
        "bytes": uplink.bytes,
        "fPort": uplink.port,
        "receivedAt": uplink.received_at.as_millis(),
        "recvTime": uplink.recv_time,
        "variables": uplink.variables,
    })
    .to_string()
}

/// What was thrown, on one bounded line.
fn said(caught: &CaughtError<'_>) -> String {
    let text = match caught {
        CaughtError::Error(error) => error.to_string(),
        CaughtError::Exception(exception) => {
            let name: Option<String> = exception.get("name").ok();
            let message = exception.message().unwrap_or_default();
            name.map_or_else(|| message.clone(), |name| format!("{name}: {message}"))
        }
        CaughtError::Value(value) => match value.clone().try_into_string() {
            Ok(text) => text.to_string().unwrap_or_default(),
            // What the engine throws when not even an error object fits any more.
            Err(value) if value.is_null() => "out of memory".to_owned(),
            Err(value) => value.ctx().json_stringify(value.clone()).ok().flatten().map_or_else(
                || "a value that is no error".to_owned(),
                |json| json.to_string().unwrap_or_default(),
            ),
        },
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_CHARS_MAX).collect()
}
