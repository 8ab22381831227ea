//! Layout of the JSON documents of the service, which are neither compact nor pretty-printed: CRLF line ends, two
//! spaces per level, and all members of an object on one line. The test of the error document in `reply` covers it.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

pub(super) fn layout(document: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail, and all keys of the documents are strings.
    let _infallible = document.serialize(&mut Serializer::with_formatter(
        &mut bytes,
        OdataLayout { depth: 0 },
    ));
    bytes
}

struct OdataLayout {
    depth: usize,
}

impl OdataLayout {
    fn open(&mut self, out: &mut (impl Write + ?Sized), bracket: &str) -> io::Result<()> {
        self.depth += 1;
        write!(out, "{bracket}\r\n{:width$}", "", width = self.depth * 2)
    }

    fn close(&mut self, out: &mut (impl Write + ?Sized), bracket: &str) -> io::Result<()> {
        self.depth = self.depth.saturating_sub(1);
        write!(out, "\r\n{:width$}{bracket}", "", width = self.depth * 2)
    }
}

fn separate(out: &mut (impl Write + ?Sized), first: bool) -> io::Result<()> {
    if first { Ok(()) } else { out.write_all(b",") }
}

impl Formatter for OdataLayout {
    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, "{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, "}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        separate(out, first)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, "[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, "]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        separate(out, first)
    }
}
