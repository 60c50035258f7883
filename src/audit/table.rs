//! Rows on their way into the table of events, as PostgreSQL's binary COPY format: the cheapest way
//! to write many rows through partitions and indexes.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};

use fieldcrypt_core::audit::Item;
use pgrx::pg_guard;
use pgrx::pg_sys::{self, Oid};

use crate::encoding;

/// From 1970 to 2000, where PostgreSQL's timestamps begin, in microseconds.
pub const EPOCH: i64 = 946_684_800_000_000;
/// What a file begins with: signature, flags, and length of an extension of the header.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

thread_local! {
    /// What is being copied, and how much of it was taken.
    static SOURCE: RefCell<(Vec<u8>, usize)> = const { RefCell::new((Vec::new(), 0)) };
}

/// Rows of the table, each with a value for each column.
pub struct Rows(Vec<u8>);

impl Rows {
    /// No rows, with room for `count`.
    pub fn with_capacity(count: usize) -> Self {
        let mut rows = Vec::with_capacity(HEADER.len() + count * 512);
        rows.extend_from_slice(HEADER);
        Self(rows)
    }

    /// Begins a row of `columns` columns.
    pub fn begin(&mut self, columns: usize) {
        self.0.extend_from_slice(&(columns as i16).to_be_bytes());
    }

    /// A value of type bytea.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// A value of type timestamptz, given in microseconds since 1970.
    pub fn time(&mut self, microseconds: i64) {
        self.bytes(&(microseconds - EPOCH).to_be_bytes());
    }

    /// A value of type bigint, text or text[].
    pub fn item(&mut self, item: &Item<'_>) {
        match *item {
            Item::Null => self.0.extend_from_slice(&(-1_i32).to_be_bytes()),
            Item::Number(number) => self.bytes(&number.to_be_bytes()),
            Item::Text(text) => self.text(text),
            Item::Texts(texts) => self.texts(texts),
        }
    }

    fn text(&mut self, text: &str) {
        if encoding::is_utf8() {
            self.bytes(text.as_bytes());
        } else {
            self.bytes(&encoding::convert_to_server(text));
        }
    }

    /// An array as `array_recv` reads it: dimensions, whether there are NULLs, type, length, lower
    /// bound, elements.
    fn texts(&mut self, texts: &[String]) {
        let at = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        let dimensions = i32::from(!texts.is_empty());
        for number in [dimensions, 0, u32::from(pg_sys::TEXTOID).cast_signed()] {
            self.0.extend_from_slice(&number.to_be_bytes());
        }
        if !texts.is_empty() {
            for number in [texts.len() as i32, 1] {
                self.0.extend_from_slice(&number.to_be_bytes());
            }
            texts.iter().for_each(|text| self.text(text));
        }
        let length = (self.0.len() - at - 4) as i32;
        self.0[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Writes the rows to a table, in the current transaction and by the current user's rights.
    pub fn write(mut self, table: Oid) {
        // the end of a file
        self.0.extend_from_slice(&(-1_i16).to_be_bytes());
        SOURCE.set((self.0, 0));
        // SAFETY: the table exists; the lists and nodes live as long as the memory context; an
        // error closes what is open
        unsafe {
            let lock = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
            let relation = pg_sys::table_open(table, lock);
            let state = pg_sys::make_parsestate(std::ptr::null_mut());
            addRangeTableEntryForRelation(
                state,
                relation,
                lock,
                std::ptr::null_mut(),
                false,
                false,
            );
            let format = pg_sys::makeDefElem(
                c"format".as_ptr().cast_mut(),
                pg_sys::makeString(c"binary".as_ptr().cast_mut()).cast(),
                -1,
            );
            let options = pg_sys::lappend(std::ptr::null_mut(), format.cast());
            let none = std::ptr::null_mut();
            let no_file = std::ptr::null();
            let copy = pg_sys::BeginCopyFrom(
                state,
                relation,
                none,
                no_file,
                false,
                Some(source),
                std::ptr::null_mut(),
                options,
            );
            pg_sys::CopyFrom(copy);
            pg_sys::EndCopyFrom(copy);
            pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
        SOURCE.take();
    }
}

unsafe extern "C-unwind" {
    /// Not among pgrx's bindings; it looks nothing up that could fail for a relation that is open.
    fn addRangeTableEntryForRelation(
        state: *mut pg_sys::ParseState,
        relation: pg_sys::Relation,
        lock: c_int,
        alias: *mut pg_sys::Alias,
        inherits: bool,
        in_from: bool,
    ) -> *mut c_void;
}

/// Gives COPY what it asks for.
#[pg_guard]
unsafe extern "C-unwind" fn source(buffer: *mut c_void, _least: c_int, most: c_int) -> c_int {
    SOURCE.with_borrow_mut(|(bytes, taken)| {
        let rest = &bytes[*taken..];
        let length = rest.len().min(usize::try_from(most).unwrap_or(0));
        // SAFETY: the buffer has room for `most` bytes
        unsafe { buffer.cast::<u8>().copy_from_nonoverlapping(rest.as_ptr(), length) };
        *taken += length;
        length as c_int
    })
}
