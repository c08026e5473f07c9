//! `landfall`: a stand-in for the destination of a QEMU live migration.

fn main() -> std::process::ExitCode {
    landfall_tools::main()
}
