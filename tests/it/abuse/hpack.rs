//! Decoder of the header lists in responses (RFC 7541). The peers of these tests disable the dynamic table, and the
//! responses of a gRPC server are ASCII.

/// The characters by the length of their Huffman codes, in the order of the codes (RFC 7541, appendix B).
const CODES: [(u32, &str); 10] = [
    (5, "012aceiost"),
    (6, " %-./3456789=A_bdfghlmnpru"),
    (7, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, "&*,;XZ"),
    (10, "!\"()?"),
    (11, "'+|"),
    (12, "#>"),
    (13, "\0$@[]~"),
    (14, "^}"),
    (15, "<`{"),
];

const STATUSES: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap();
        self.0 = rest;
        *first
    }

    fn integer(&mut self, first: u8, prefix: u32) -> usize {
        let max = (1 << prefix) - 1;
        let mut value = usize::from(first) & max;
        if value < max {
            return value;
        }
        for shift in (0..).step_by(7) {
            let byte = self.byte();
            value += usize::from(byte & 127) << shift;
            if byte < 128 {
                break;
            }
        }
        value
    }

    fn text(&mut self) -> String {
        let first = self.byte();
        let length = self.integer(first, 7);
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        if first < 128 {
            String::from_utf8(text.to_vec()).unwrap()
        } else {
            huffman(text)
        }
    }

    fn literal(&mut self, first: u8, prefix: u32) -> (String, String) {
        let name = match self.integer(first, prefix) {
            0 => self.text(),
            8..=14 => ":status".to_owned(),
            31 => "content-type".to_owned(),
            other => format!("static-{other}"),
        };
        (name, self.text())
    }
}

fn huffman(bytes: &[u8]) -> String {
    let bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let (mut text, mut code, mut length) = (String::new(), 0, 0);
    for bit in bits {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        if let Some(letter) = letter(code, length) {
            text.push(letter);
            (code, length) = (0, 0);
        }
    }
    // The remaining bits are padding.
    text
}

fn letter(code: u32, length: u32) -> Option<char> {
    let mut first = 0;
    let mut before = 5;
    for (of_length, letters) in CODES {
        first <<= of_length - before;
        if of_length == length {
            let at = usize::try_from(code.checked_sub(first)?).unwrap();
            return letters.chars().nth(at);
        }
        first += u32::try_from(letters.chars().count()).unwrap();
        before = of_length;
    }
    None
}

/// Returns the fields of a header block.
pub fn fields(block: &[u8]) -> Vec<(String, String)> {
    let mut reader = Reader(block);
    let mut fields = Vec::new();
    while !reader.0.is_empty() {
        let first = reader.byte();
        match first {
            128.. => {
                let at = reader.integer(first, 7);
                fields.push((":status".to_owned(), STATUSES[at - 8].to_owned()));
            }
            64.. => fields.push(reader.literal(first, 6)),
            // A dynamic table size update.
            32.. => drop(reader.integer(first, 5)),
            _ => fields.push(reader.literal(first, 4)),
        }
    }
    fields
}

#[test]
fn huffman_coded_headers_are_decoded() {
    // RFC 7541, appendix C.6.1, without the references to the dynamic table.
    let block = b"\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b\x88";
    let expected = [
        (":status", "302"),
        ("static-24", "private"),
        (":status", "200"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(fields(block), expected);
}
