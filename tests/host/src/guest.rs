//! Inside of the guest: PID 1, which runs the tests it is asked for.

mod boot;
mod context;

use std::{
    any::Any,
    cell::RefCell,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result};

pub use context::{Guest, Ran};

use crate::{
    Case,
    machine::lock,
    wire::{FromGuest, PORT, Run, ToGuest},
};

/// A variable that the kernel's command line puts into PID 1's environment.
pub(crate) const MARK: &str = "HANGAR_TIER_GUEST";

/// Tells whether this process is a guest's PID 1.
pub(crate) fn is_inside() -> bool {
    std::process::id() == 1 && std::env::var_os(MARK).is_some()
}

/// The line to the harness.
pub(crate) type Line = Arc<Mutex<File>>;

/// Runs tests until the harness hangs up, then powers the machine off.
pub(crate) fn serve(cases: &[Case]) -> ! {
    if let Err(error) = try_serve(cases) {
        eprintln!("host tier: {error:#}");
    }
    boot::power_off()
}

fn try_serve(cases: &[Case]) -> Result<()> {
    boot::prepare()?;
    keep_panic_messages();
    let port = port()?;
    let line: Line = Arc::new(Mutex::new(port.try_clone()?));
    say(&line, &FromGuest::Ready);
    for text in BufReader::new(port).lines() {
        let ToGuest::Run(run) = serde_json::from_str(&text?).context("understand the harness")?;
        let case = cases.iter().find(|case| case.name == run.case).copied();
        let function = case.and_then(|case| case.part(run.part));
        let function = function.with_context(|| format!("no test is called {}", run.case))?;
        let line = Arc::clone(&line);
        std::thread::Builder::new()
            .name(run.case.clone())
            .spawn(move || run_case(function, &run, &line))?;
    }
    Ok(())
}

fn run_case(function: fn(&Guest), run: &Run, line: &Line) {
    let guest = Guest::new(run, Arc::clone(line));
    let failure = match panic::catch_unwind(AssertUnwindSafe(|| function(&guest))) {
        Ok(()) => None,
        Err(panic) => Some(message(&*panic)),
    };
    let transcript = match failure {
        Some(_) => guest.transcript_with_kernel_log(),
        None => String::new(),
    };
    let id = run.id;
    say(
        line,
        &FromGuest::Done {
            id,
            failure,
            transcript,
        },
    );
}

thread_local! {
    /// Message and place of the panic that is under way in this thread.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn keep_panic_messages() {
    panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        PANIC.with_borrow_mut(|message| *message = Some(info.to_string()));
    }));
}

fn message(panic: &(dyn Any + Send)) -> String {
    let known = PANIC.with_borrow_mut(Option::take);
    known.unwrap_or_else(|| format!("{:?}", panic.type_id()))
}

/// Opens the virtio-serial port to the harness.
fn port() -> Result<File> {
    for entry in fs::read_dir("/sys/class/virtio-ports").context("list the virtio ports")? {
        let dir = entry?.path();
        if fs::read_to_string(dir.join("name")).is_ok_and(|name| name.trim() == PORT) {
            let path = PathBuf::from("/dev").join(dir.file_name().unwrap_or_default());
            let file = OpenOptions::new().read(true).write(true).open(&path);
            return file.with_context(|| format!("open {}", path.display()));
        }
    }
    anyhow::bail!("no port is called {PORT}")
}

pub(crate) fn say(line: &Line, message: &FromGuest) {
    let mut text = serde_json::to_string(message).expect("messages are text");
    text.push('\n');
    if let Err(error) = lock(line).write_all(text.as_bytes()) {
        eprintln!("host tier: tell the harness: {error}");
    }
}
