//! The program `weir`: everything is in the library, so that tests can reach it.

use std::process::ExitCode;

/// A request is some dozens of small pieces of memory that live for a moment; what is shipped has an
/// allocator that hands them out for less than the system's.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    weir::cli::main()
}
