//! Prints what walks over a typical document take: an object of 20 keys and about 600 bytes, of
//! which three keys are flagged.

// the tool stops at the first error
#![allow(clippy::unwrap_used)]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use fieldcrypt_document::flags::{Flags, State};
use fieldcrypt_document::jsonb::{Container, Malformed, Value, strings};
use fieldcrypt_document::rewrite::{Change, Node, Transform, object, rewrite};

/// Replaces what is flagged, or keeps that too.
struct Encrypt<'a> {
    flags: &'a Flags<()>,
    replacement: Option<&'a [u8]>,
}

impl Transform for Encrypt<'_> {
    type State = State;
    type Error = Malformed;

    fn key(&mut self, state: &State, key: &[u8]) -> Result<Option<State>, Malformed> {
        Ok(self.flags.key(*state, key))
    }

    fn element(&mut self, state: &State, _: usize) -> Result<Option<State>, Malformed> {
        Ok(self.flags.element(*state))
    }

    fn value(&mut self, state: State, value: Value<'_>) -> Result<Change<State>, Malformed> {
        Ok(match (self.flags.rule(state, value.is_array()), self.replacement) {
            (None, _) => Change::Enter(state),
            (Some(_), None) => Change::Keep,
            (Some(_), Some(bytes)) => Change::Replace(Node::String(bytes.to_vec())),
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let number = [24, 0, 0, 0, 0, 0x80, 7, 0].to_vec();
    let pairs = (0..20).map(|i| {
        let key = format!("{}_{i}", ["name", "street", "contact", "attribute"][i % 4]);
        let value = match i % 5 {
            0 => Node::Number(number.clone()),
            1 => Node::Bool(true),
            _ => Node::String(vec![b'v'; 9 + i]),
        };
        (key.into_bytes(), value)
    });
    let Node::Container(document) = &object(pairs.collect())? else { return Ok(()) };
    let container = Container::new(document)?;
    let paths = ["street_17", "contact_2", "attribute_7", "address.street", "phones[*].number"];
    let flags = Flags::compile(
        paths.iter().map(|path| Ok((path.parse()?, ()))).collect::<Result<_, Box<dyn Error>>>()?,
    );
    println!("{} keys, {} bytes", container.len(), document.len());

    time("rewrite, three strings of 170 bytes replaced", || {
        let mut encrypt = Encrypt { flags: &flags, replacement: Some(&[b'e'; 170]) };
        let mut rewritten = rewrite(black_box(container), flags.start(), &mut encrypt).unwrap();
        // free capacity is wiped faster
        if let Some(rewritten) = &mut rewritten {
            black_box(&rewritten).len();
            rewritten.clear();
        }
    });
    time("rewrite, everything kept", || {
        let mut keep = Encrypt { flags: &flags, replacement: None };
        black_box(rewrite(black_box(container), flags.start(), &mut keep).unwrap());
    });
    time("strings", || {
        let mut bytes = 0;
        let count = |string: &[u8]| {
            bytes += string.len();
            Ok::<_, Malformed>(())
        };
        strings(black_box(container), count).unwrap();
        black_box(bytes);
    });
    time("get", || {
        black_box(container.get(black_box(b"contact_2")).unwrap());
    });
    Ok(())
}

/// Prints the best of several loops.
fn time(what: &str, mut run: impl FnMut()) {
    const RUNS: u32 = 20_000;
    let nanoseconds = (0..25).map(|_| {
        let start = Instant::now();
        (0..RUNS).for_each(|_| run());
        start.elapsed().as_nanos() / u128::from(RUNS)
    });
    println!("{:>6} ns  {what}", nanoseconds.min().unwrap_or_default());
}
