//! Compiles `proto/` without `protoc`: Rust code for the service, and descriptor sets for reflection and the docs.

use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 3] = [
    "useradmin/v1/user_admin.proto",
    "useradmin/v1/error_reason.proto",
    "useradmin/v1/error_details.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES)?;
    fs::write(
        out.join("useradmin.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    let mut config = tonic_prost_build::Config::new();
    // Typed error details are identified by the name of their message.
    config.enable_type_names();
    config.type_name_domain(["."], "type.googleapis.com");
    tonic_prost_build::configure()
        .codec_path("crate::codec::SmallMessageCodec")
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
