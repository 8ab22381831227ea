//! Generates the client code from `proto/`. `protoc` is not required.

use std::{error::Error, fs};

const API: &str = "useradmin/v1";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/{API}");
    let mut files = Vec::new();
    for entry in fs::read_dir(format!("proto/{API}"))? {
        let name = entry?.file_name();
        let file = format!("{API}/{}", name.display());
        println!("cargo:rerun-if-changed=proto/{file}");
        files.push(file);
    }
    files.sort();
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(files)?;
    tonic_prost_build::configure()
        .build_server(false)
        // Newer versions of the API can add values.
        .enum_attribute(".", "#[non_exhaustive]")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
