//! The provider `command`: a program that wraps and unwraps where the root key is kept, so that the
//! root key is never here (`docs/keyring.md`).
//!
//! Invariants: the program gets no shell, no environment and no open file of the server; it ends
//! with its whole process group when nobody waits for its answer any more; what it answers is
//! verified, and none of it is shown.

use std::cell::{OnceCell, RefCell};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};
use fieldcrypt_core::key::{KEY_LENGTH, SecretKey};
use fieldcrypt_core::wrap::{self, KeyName};
use pgrx::{pg_guard, pg_sys};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::locked::Locked;
use super::provider::check_file;
use crate::error::Result;

/// Longest line in either direction, in bytes.
const LONGEST_LINE: usize = 16 << 10;
/// Longest wrapped key, in bytes.
pub const LONGEST_WRAPPED: usize = 8 << 10;
/// How often the program is looked after while nothing comes from it.
const POLL: Duration = Duration::from_millis(100);
/// Where the program finds others.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a program is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// For each answer.
    pub time_limit: Duration,
}

/// Why there is no answer. The numbers stand in shared memory.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[repr(u8)]
pub enum Failure {
    #[error("could not be started")]
    Start = 1,
    #[error("did not answer in time")]
    Time,
    #[error("ended without an answer")]
    End,
    #[error("gave an answer that cannot be understood")]
    Answer,
    #[error("refused")]
    Denied,
    #[error("cannot reach its key service")]
    Unavailable,
    #[error("failed")]
    Failed,
    #[error("answered with another key")]
    OtherKey,
}

impl Failure {
    /// The failure of that number.
    pub fn from_number(number: u8) -> Self {
        [
            Self::Start,
            Self::Time,
            Self::End,
            Self::Answer,
            Self::Denied,
            Self::Unavailable,
            Self::OtherKey,
        ]
        .into_iter()
        .find(|failure| *failure as u8 == number)
        .unwrap_or(Self::Failed)
    }
}

type Answered<T> = std::result::Result<T, Failure>;

/// A line that is written or read, in locked memory: it holds keys.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Line {
    bytes: [u8; LONGEST_LINE],
    length: usize,
}

impl Line {
    fn text(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, text: &[u8]) -> Answered<()> {
        let room = self.bytes.get_mut(self.length..self.length + text.len());
        room.ok_or(Failure::Failed)?.copy_from_slice(text);
        self.length += text.len();
        Ok(())
    }

    fn push_base64(&mut self, bytes: &[u8]) -> Answered<()> {
        let room = &mut self.bytes[self.length..];
        let text = Base64::encode(bytes, room).map_err(|_| Failure::Failed)?;
        self.length += text.len();
        Ok(())
    }
}

/// What the program says: one of these.
#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    key: Option<&'a str>,
    #[serde(borrow)]
    wrapped: Option<&'a str>,
    #[serde(borrow)]
    error: Option<&'a str>,
}

/// The program, running.
struct Running {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

thread_local! {
    /// The groups of the programs that run. `None`: nothing was ever started.
    static GROUPS: RefCell<Option<Vec<Pid>>> = const { RefCell::new(None) };
}

impl Running {
    fn group(&self) -> Option<Pid> {
        // it is the leader of its group
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Has the program end with this process, also where nothing is unwound.
    fn end_with_process(&self) {
        GROUPS.with_borrow_mut(|groups| {
            let groups = groups.get_or_insert_with(|| {
                // SAFETY: once for each process; the callback is guarded and raises no error
                unsafe { pg_sys::on_proc_exit(Some(process_ends), pg_sys::Datum::null()) };
                Vec::new()
            });
            groups.extend(self.group());
        });
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn process_ends(_code: i32, _argument: pg_sys::Datum) {
    let groups = GROUPS.with(|groups| groups.try_borrow_mut().ok().and_then(|mut g| g.take()));
    for group in groups.unwrap_or_default() {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // nobody else waits for it, so that its id is still its own
        if let Some(group) = self.group() {
            let _ = kill_process_group(group, Signal::KILL);
            GROUPS.with_borrow_mut(|groups| {
                if let Some(groups) = groups {
                    groups.retain(|&running| running != group);
                }
            });
        }
        let _ = self.child.wait();
    }
}

/// Questions to the program about one root key, which it is started for when the first is asked.
pub struct Conversation {
    command: Command,
    root: String,
    running: RefCell<Option<Running>>,
    line: OnceCell<Locked<RefCell<Line>>>,
}

impl Conversation {
    /// Nothing is asked yet.
    pub fn new(command: Command, root: &str) -> Self {
        Self { command, root: root.to_owned(), running: RefCell::new(None), line: OnceCell::new() }
    }

    /// How long an answer may take.
    pub fn time_limit(&self) -> Duration {
        self.command.time_limit
    }

    /// Has a key wrapped, and proves that it can be unwrapped.
    pub fn wrap(&self, name: &KeyName<'_>, key: &SecretKey) -> Answered<Vec<u8>> {
        let wrapped = self.ask("wrap", name, "key", key.as_bytes(), |reply| {
            let mut bytes = vec![0; LONGEST_WRAPPED];
            let text = reply.wrapped.ok_or(Failure::Answer)?;
            let length = Base64::decode(text, &mut bytes).map_err(|_| Failure::Answer)?.len();
            bytes.truncate(length);
            if length == 0 { Err(Failure::Answer) } else { Ok(bytes) }
        })?;
        self.unwrap(name, &wrapped, &wrap::check_value(key, name))?;
        Ok(wrapped)
    }

    /// Has a key unwrapped.
    pub fn unwrap(
        &self,
        name: &KeyName<'_>,
        wrapped: &[u8],
        check_value: &[u8],
    ) -> Answered<SecretKey> {
        let key = self.ask("unwrap", name, "wrapped", wrapped, |reply| {
            let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
            let text = reply.key.ok_or(Failure::Answer)?;
            match Base64::decode(text, bytes.as_mut_slice()) {
                Ok(decoded) if decoded.len() == KEY_LENGTH => {}
                _ => return Err(Failure::Answer),
            }
            Ok(SecretKey::from_bytes(&mut bytes))
        })?;
        if wrap::verify(&wrap::check_value(&key, name), check_value) {
            Ok(key)
        } else {
            Err(Failure::OtherKey)
        }
    }

    fn ask<T>(
        &self,
        operation: &str,
        name: &KeyName<'_>,
        what: &str,
        bytes: &[u8],
        read: impl Fn(&Reply<'_>) -> Answered<T>,
    ) -> Answered<T> {
        let line = self.line.get_or_init(|| {
            Locked::new(RefCell::new(Line { bytes: [0; LONGEST_LINE], length: 0 }))
        });
        let mut line = line.borrow_mut();
        let mut running = self.running.borrow_mut();
        let deadline = Instant::now() + self.command.time_limit;
        // one that has ended after its last answer is started again
        let was_running = running.is_some();
        let mut result = Err(Failure::End);
        for _ in 0..=usize::from(was_running) {
            // put back only if it answers: otherwise it ends here, also if this is cancelled
            let mut program = match running.take() {
                Some(program) => program,
                None => self.command.start()?,
            };
            self.request(&mut line, operation, name, what, bytes)?;
            result = program.exchange(&mut line, deadline);
            if result.is_ok() {
                *running = Some(program);
            }
            if result != Err(Failure::End) {
                break;
            }
        }
        result?;
        let reply: Reply<'_> = serde_json::from_slice(line.text()).map_err(|_| Failure::Answer)?;
        match reply.error {
            Some("denied") => Err(Failure::Denied),
            Some("unavailable") => Err(Failure::Unavailable),
            Some(_) => Err(Failure::Failed),
            None => read(&reply),
        }
    }

    /// Writes a question into the line.
    fn request(
        &self,
        line: &mut Line,
        operation: &str,
        name: &KeyName<'_>,
        what: &str,
        bytes: &[u8],
    ) -> Answered<()> {
        let context = serde_json::json!({
            "account": name.account,
            "purpose": name.purpose.name(),
            "version": name.version.to_string(),
            "key_id": name.id.number().to_string(),
        });
        let head =
            serde_json::json!({ "operation": operation, "root": self.root, "context": context });
        let head = head.to_string();
        line.zeroize();
        line.push(head.strip_suffix('}').unwrap_or_default().as_bytes())?;
        line.push(b",\"")?;
        line.push(what.as_bytes())?;
        line.push(b"\":\"")?;
        line.push_base64(bytes)?;
        line.push(b"\"}\n")
    }
}

impl Command {
    /// Fails if others could put another program in its place.
    pub fn check(&self, root: &str) -> Result<()> {
        check_file(&self.program, &format!("program of root key \"{root}\""), 0o022)
    }

    fn start(&self) -> Answered<Running> {
        close_files_on_exec().map_err(|_| Failure::Start)?;
        let mut child = std::process::Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", SEARCH_PATH)
            .current_dir(Path::new("/"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // what it would say there could be a key
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|_| Failure::Start)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::Start);
        };
        let running = Running { child, input, output };
        running.end_with_process();
        let set = ioctl_fionbio(&running.input, true).and(ioctl_fionbio(&running.output, true));
        set.map_err(|_| Failure::Start)?;
        Ok(running)
    }
}

impl Running {
    /// Writes the line, and reads one into its place.
    fn exchange(&mut self, line: &mut Line, deadline: Instant) -> Answered<()> {
        let mut written = 0;
        while written < line.length {
            match self.input.write(&line.text()[written..]) {
                Ok(0) => return Err(Failure::End),
                Ok(length) => written += length,
                Err(error) => {
                    may_go_on(&error)?;
                    wait(self.input.as_fd(), PollFlags::OUT, deadline)?;
                }
            }
        }
        line.zeroize();
        loop {
            let room = &mut line.bytes[line.length..];
            if room.is_empty() {
                return Err(Failure::Answer);
            }
            match self.output.read(room) {
                Ok(0) => return Err(if line.length == 0 { Failure::End } else { Failure::Answer }),
                Ok(length) => {
                    line.length += length;
                    if line.text().last() == Some(&b'\n') {
                        return Ok(());
                    }
                }
                Err(error) => {
                    may_go_on(&error)?;
                    wait(self.output.as_fd(), PollFlags::IN, deadline)?;
                }
            }
        }
    }
}

/// Fails if a read or write has failed for good, and not only because it would have to wait.
fn may_go_on(error: &std::io::Error) -> Answered<()> {
    use std::io::ErrorKind::{Interrupted, WouldBlock};
    if [Interrupted, WouldBlock].contains(&error.kind()) { Ok(()) } else { Err(Failure::End) }
}

/// Waits until a pipe is ready. Cancelling the query raises its error here.
fn wait(pipe: BorrowedFd<'_>, ready: PollFlags, deadline: Instant) -> Answered<()> {
    loop {
        pgrx::check_for_interrupts!();
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Time);
        }
        let timeout = Timespec::try_from(left.min(POLL)).map_err(|_| Failure::Time)?;
        match poll(&mut [PollFd::new(&pipe, ready)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(_) => return Err(Failure::End),
        }
    }
}

/// Sees to it that no file that is open here is open in a program that is started: files of the
/// database, sockets of clients.
fn close_files_on_exec() -> std::io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(number) = number.filter(|&number| number > 2) {
            // SAFETY: it was just listed; this process has one thread. The one that lists is still
            // open
            let file = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl_setfd(file, FdFlags::CLOEXEC)?;
        }
    }
    Ok(())
}
