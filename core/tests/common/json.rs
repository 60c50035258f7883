//! Reading the test data in `core/tests/data`.

use serde_json::Value;

/// The file of that name.
pub fn load(name: &str) -> Value {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The array `key` of `object`.
pub fn array<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object[key].as_array().unwrap_or_else(|| panic!("{key} is not an array: {object}"))
}

/// The string `key` of `object`.
pub fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_else(|| panic!("{key} is not a string: {object}"))
}

/// The bytes that the string `key` of `object` gives in hexadecimal.
pub fn bytes(object: &Value, key: &str) -> Vec<u8> {
    base16ct::lower::decode_vec(text(object, key))
        .unwrap_or_else(|_| panic!("{key} is not hexadecimal: {object}"))
}
