//! The commands that write generated output: the API, shell completions and man pages.

use std::{
    io::{ErrorKind, Write as _},
    path::Path,
    process::ExitCode,
};

use clap::Command;
use clap_complete::{Shell, aot::generate};
use prost::Message as _;

use super::exit::fail;
use crate::proto;

/// Writes the API as a `FileDescriptorSet` to standard output.
pub fn protoset() -> ExitCode {
    write(&proto::descriptors().encode_to_vec())
}

/// Writes the completions of a shell to standard output.
pub fn completions(shell: Shell, mut program: Command) -> ExitCode {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    generate(shell, &mut program, name, &mut script);
    write(&script)
}

/// Writes the man page of each command to a file in this folder.
pub fn man(folder: &Path, program: Command) -> ExitCode {
    match clap_mangen::generate_to(program, folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{}: {error}", folder.display()), 1),
    }
}

fn write(bytes: &[u8]) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes);
    match written.and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader, such as `head`, has closed the pipe early.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&format!("standard output: {error}"), 1),
    }
}
