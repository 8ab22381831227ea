//! Runs the entry points of `fuzz/entries/` without a fuzzer: on their seeds, on mutations of the seeds, and on
//! generated inputs. `USERADMIN_FUZZ_SECONDS` sets the duration of the mutations for each entry point.

mod generators;
mod mutation;

use std::{
    cell::Cell,
    collections::BTreeSet,
    env, fs,
    path::Path,
    time::{Duration, Instant},
};

use proptest::{
    sample::select,
    strategy::{Strategy, Union},
    test_runner::{Config, TestError, TestRunner},
};

#[path = "../../fuzz/entries/mod.rs"]
pub mod entries;

const DEFAULT_SECONDS: f64 = 0.3;

macro_rules! entries {
    ($($name:ident)*) => {
        pub const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(#[test]
        fn $name() {
            run(stringify!($name), entries::$name);
        })*
    };
}

entries! {
    audit batch certificate config escape hmc jwks path pattern request retry_after timeout token
}

fn run(name: &str, entry: fn(&[u8])) {
    let seeds = seeds(name);
    for (file, bytes) in &seeds {
        // The test output shows these lines on failure; the last one names the seed that failed.
        println!("fuzz/seeds/{name}/{file}");
        entry(bytes);
    }
    let seeds: Vec<Vec<u8>> = seeds.into_iter().map(|(_, bytes)| bytes).collect();
    let mutations = mutation::mutations(&seeds, &tokens(name));
    let mut strategies = vec![mutations];
    strategies.extend(generators::generator(name));
    let inputs = Union::new(strategies);
    let seconds = env::var("USERADMIN_FUZZ_SECONDS").ok();
    let seconds = seconds.map_or(DEFAULT_SECONDS, |text| text.parse().expect("seconds"));
    let deadline = Instant::now() + Duration::from_secs_f64(seconds);
    let count = Cell::new(0);
    while Instant::now() < deadline {
        let config = Config {
            failure_persistence: None,
            ..Config::default()
        };
        let result = TestRunner::new(config).run(&inputs, |bytes| {
            if Instant::now() < deadline {
                entry(&bytes);
                count.set(count.get() + 1);
            }
            Ok(())
        });
        match result {
            Ok(()) => {}
            Err(TestError::Fail(why, bytes)) => {
                let escaped = shell_escaped(&bytes);
                panic!("{why}\nkeep it: printf %b '{escaped}' > fuzz/seeds/{name}/regression");
            }
            Err(other) => panic!("{other}"),
        }
    }
    let count = count.get();
    println!("{name}: {count} inputs");
}

/// Escapes bytes for `printf %b` in a shell.
fn shell_escaped(bytes: &[u8]) -> String {
    let is_plain = |b: u8| (b.is_ascii_graphic() && !b"'\\".contains(&b)) || b == b' ';
    let escape = |b: &u8| match *b {
        b if is_plain(b) => char::from(b).to_string(),
        b => format!("\\0{b:03o}"),
    };
    bytes.iter().map(escape).collect()
}

/// Returns the names and bytes of the seeds of an entry point.
fn seeds(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = entries::fuzz_path("seeds").join(name);
    let files = names(&folder).into_iter();
    files
        .map(|file| {
            let bytes = fs::read(folder.join(&file)).unwrap();
            (file, bytes)
        })
        .collect()
}

/// Returns the entries of a libFuzzer dictionary. Entries are quoted, and bytes other than printable ASCII are written
/// as `\xNN`.
fn tokens(name: &str) -> Vec<Vec<u8>> {
    let file = entries::fuzz_path("dictionaries").join(format!("{name}.dict"));
    let text = fs::read_to_string(file).unwrap();
    let quoted = text.lines().map(|line| {
        let inner = line
            .strip_prefix('"')
            .and_then(|line| line.strip_suffix('"'));
        inner.unwrap_or_else(|| panic!("{name}.dict: {line}"))
    });
    quoted.map(parse_dictionary_entry).collect()
}

fn parse_dictionary_entry(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(byte, 16).unwrap());
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|_| panic!("no {}", folder.display()));
    let names = entries.map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

/// Generates one of the seeds.
fn one_of(seeds: &[Vec<u8>]) -> impl Strategy<Value = Vec<u8>> + use<> {
    select(seeds.to_vec())
}

#[test]
fn every_entry_point_has_target_seeds_and_dictionary() {
    let with_suffix = |end: &str| -> BTreeSet<String> {
        NAMES.iter().map(|name| format!("{name}{end}")).collect()
    };
    assert_eq!(names(&entries::fuzz_path("targets")), with_suffix(".rs"));
    assert_eq!(names(&entries::fuzz_path("seeds")), with_suffix(""));
    assert_eq!(
        names(&entries::fuzz_path("dictionaries")),
        with_suffix(".dict")
    );
    let manifest = fs::read_to_string(entries::fuzz_path("Cargo.toml")).unwrap();
    for name in NAMES {
        assert!(
            manifest.contains(&format!("path = \"targets/{name}.rs\"")),
            "{name}"
        );
        let target = entries::fuzz_path("targets").join(format!("{name}.rs"));
        let target = fs::read_to_string(target).unwrap();
        assert!(
            target.contains(&format!("entries::{name}(bytes)")),
            "{name}"
        );
    }
}

#[test]
fn failing_input_is_saved() {
    assert_eq!(
        shell_escaped(b"a'\\\0\n\xFF% z"),
        r"a\0047\0134\0000\0012\0377% z"
    );
    assert_eq!(parse_dictionary_entry(r"a\x22\xFFb"), b"a\"\xFFb");
}
