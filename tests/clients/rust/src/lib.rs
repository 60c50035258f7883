//! What the Rust clients have in common: their work, and their report.

use std::any::type_name;
use std::error::Error;
use std::io;

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde_json::{Map, Value, json};

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// So that the server makes a generic plan of the prepared statement.
pub const REPEAT: usize = 12;

/// What the program is told on its standard input.
pub struct Work {
    pub work: Value,
    pub transparent: bool,
    /// Name and plain type, in the order of the table.
    pub columns: Vec<(String, String)>,
}

impl Work {
    pub fn read() -> Result<Self> {
        let work: Value = serde_json::from_reader(io::stdin())?;
        let kinds = work["columns"].as_object().ok_or("no columns")?;
        let columns =
            kinds.iter().map(|(name, kind)| (name.clone(), text(kind).to_owned())).collect();
        Ok(Self { transparent: work["mode"] == "transparent", columns, work })
    }

    pub fn rows(&self, name: &str) -> &[Value] {
        self.work[name].as_array().map_or(&[], Vec::as_slice)
    }

    pub fn kind(&self, column: &str) -> &str {
        text(&self.work["columns"][column])
    }

    /// A column in a select list.
    pub fn shown(&self, column: &str) -> String {
        match self.transparent {
            true => column.to_owned(),
            false => format!("fieldcrypt.decrypt({column}) AS {column}"),
        }
    }

    pub fn select(&self) -> String {
        let columns: Vec<_> = self.columns.iter().map(|(name, _)| self.shown(name)).collect();
        format!("SELECT {} FROM customer", columns.join(", "))
    }

    pub fn select_purchases(&self) -> String {
        let name = self.shown("name");
        format!("SELECT item, {name} FROM purchase JOIN customer ON customer.id = customer_id")
    }

    pub fn insert_into(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        format!("INSERT INTO customer ({})", names.join(", "))
    }

    /// `($1, $2, …)`, from a number on.
    pub fn placeholders(&self, first: usize) -> String {
        let numbers: Vec<_> =
            (first..first + self.columns.len()).map(|number| format!("${number}")).collect();
        format!("({})", numbers.join(", "))
    }

    /// Columns and values of the update, with the document that was read.
    pub fn changes(&self, mut document: Value) -> Map<String, Value> {
        document["stage"] = self.work["stage"].clone();
        let mut changes = self.work["changes"].as_object().cloned().unwrap_or_default();
        changes.insert("data".to_owned(), document);
        changes
    }

    /// `UPDATE customer SET name = $2, … WHERE email = $1`
    pub fn update(changes: &Map<String, Value>) -> String {
        let pairs: Vec<_> = changes
            .keys()
            .enumerate()
            .map(|(index, column)| format!("{column} = ${}", index + 2))
            .collect();
        format!("UPDATE customer SET {} WHERE email = $1", pairs.join(", "))
    }
}

/// What the program says that it did.
#[derive(Default)]
pub struct Report(Map<String, Value>);

impl Report {
    pub fn add(&mut self, operation: &str, result: Result<Value>) {
        let result = result.unwrap_or_else(|error| json!({ "error": format!("{error:?}") }));
        self.0.insert(operation.to_owned(), result);
    }

    pub fn print(self) {
        println!("{}", Value::Object(self.0));
    }
}

pub fn done() -> Result<Value> {
    Ok(json!("done"))
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The date of a text such as `1990-02-28` or `0044-03-15 BC`; none for infinity.
pub fn date(text: &str) -> Option<NaiveDate> {
    let (date, before_christ) = match text.strip_suffix(" BC") {
        Some(date) => (date, true),
        None => (text, false),
    };
    let date: NaiveDate = date.parse().ok()?;
    date.with_year(if before_christ { 1 - date.year() } else { date.year() })
}

pub fn date_text(date: NaiveDate) -> String {
    if date.year() > 0 {
        return date.to_string();
    }
    format!("{:04}-{} BC", 1 - date.year(), date.format("%m-%d"))
}

pub fn instant(text: &str) -> Result<DateTime<Utc>> {
    Ok(text.parse()?)
}

/// Bytes of hexadecimal digits.
pub fn bytes(digits: &str) -> Result<Vec<u8>> {
    (0..digits.len())
        .step_by(2)
        .map(|at| Ok(u8::from_str_radix(&digits[at..at + 2], 16)?))
        .collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A native value as JSON, with its type.
pub fn shown<T>(value: Option<T>, to_json: impl Fn(T) -> Value) -> Value {
    let name: Vec<_> = type_name::<T>()
        .split_inclusive(['<', '>'])
        .map(|part| part.rsplit("::").next().unwrap_or_default())
        .collect();
    value.map_or(Value::Null, |value| json!([name.concat(), to_json(value)]))
}
