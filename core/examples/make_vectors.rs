//! Writes `tests/data/vectors.json` and `tests/data/malformed.json`. The format is for ever: after
//! a change the old vectors must still be there, unchanged.

// the tool stops at the first error
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/common/generate.rs"]
mod generate;
#[path = "../tests/common/reference.rs"]
mod reference;

fn main() {
    let files = [("vectors", generate::vectors()), ("malformed", generate::malformed())];
    for (name, contents) in files {
        let path = format!("{}/tests/data/{name}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, serde_json::to_string_pretty(&contents).unwrap() + "\n").unwrap();
    }
}
