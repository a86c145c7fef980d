//! The program `weir`: everything is in the library, so that tests can reach it.

use std::process::ExitCode;

/// Requests are many small pieces of memory that live for a moment; this allocator hands them out for less
/// than the system's, and `make bench` shows what it keeps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    weir::cli::main()
}
