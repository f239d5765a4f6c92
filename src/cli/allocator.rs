//! Before `run`: the allocator is told to give back what was freed, so that a box that runs for years stays small.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where glibc reads its settings, once, before `main`.
const VARIABLE: &str = "GLIBC_TUNABLES";

/// Left to itself, glibc keeps an arena for each thread, and after the first large buffer that is freed it takes later ones
/// from the heap, where one small block above them holds all of it: 69.6 MiB resident for 28 MiB in use after 1.35 million
/// messages flat out, and growing. With these it is 54 to 57 (`docs/performance.md`, "A day").
///
/// - two arenas: as many as the boxes this runs on have threads that are busy at once;
/// - 128 KiB, glibc's own first figures: above it a buffer is mapped alone and gone when freed, and so much free memory at
///   the top of the heap is given back. Said here, they no longer grow by themselves.
const SETTINGS: &str =
    "glibc.malloc.arena_max=2:glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=131072";

/// Becomes the same program with the same arguments and the same process id, with the settings in its environment. Does
/// nothing if somebody chose settings already, and goes on as it is if the program cannot be started again: then it needs
/// more memory, and nothing else changes.
///
/// The other ways are a call of `mallopt`, which is `unsafe`, and another allocator: of those tried, jemalloc needs the page
/// size of the box when it is built, and mimalloc twice the memory.
pub(super) fn start_again_with_settings() {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // It returns only if it failed.
    let failed = again.args(arguments).env(VARIABLE, SETTINGS).exec();
    drop(failed);
}
