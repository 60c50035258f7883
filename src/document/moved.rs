//! Rows that an UPDATE moves to another partition: PostgreSQL deletes them there and inserts them
//! here, and the trigger sees the two halves one after the other.
//!
//! Invariant: what the old row held may arrive once, and only if PostgreSQL has marked that row as
//! moved: a copy of a row is no move.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::pg_sys::{self, Oid};

use crate::backend;

/// A row that an UPDATE may be about to move, and the envelopes in it.
pub struct Row {
    pub table: Oid,
    pub place: pg_sys::ItemPointerData,
    pub envelopes: Vec<Vec<u8>>,
}

/// When the statement began, and the row.
type Last = (i64, Row);

thread_local! {
    /// By document: a table may have several.
    static LAST: RefCell<HashMap<String, Last>> = RefCell::default();
}

/// Remembers the row that was updated last.
pub fn remember(document: &str, row: Row) {
    let last = (backend::statement_start(), row);
    LAST.with_borrow_mut(|rows| rows.insert(document.to_owned(), last));
}

/// Forgets it, and returns its envelopes if it has since been moved, in the same statement.
pub fn take(document: &str) -> Option<Vec<Vec<u8>>> {
    let (statement, row) = LAST.with_borrow_mut(|rows| rows.remove(document))?;
    (statement == backend::statement_start() && is_moved(&row)).then_some(row.envelopes)
}

/// Whether a row has been deleted to be inserted in another partition.
fn is_moved(row: &Row) -> bool {
    let mut tuple = pg_sys::HeapTupleData {
        t_self: row.place,
        t_tableOid: row.table,
        ..pg_sys::HeapTupleData::default()
    };
    let mut buffer = pg_sys::InvalidBuffer as pg_sys::Buffer;
    // SAFETY: the table is one that this statement updates, or has been dropped: opening it then
    // raises an error. heap_fetch reads a place of it, whatever is there now, and pins its page
    // until the buffer is released; that is asked of heaps only
    unsafe {
        let table = pg_sys::try_relation_open(row.table, pg_sys::AccessShareLock as i32);
        if table.is_null() {
            return false;
        }
        let is_heap = (*table).rd_tableam == pg_sys::GetHeapamTableAmRoutine();
        let found = is_heap
            && pg_sys::heap_fetch(
                table,
                &raw mut pg_sys::SnapshotAnyData,
                &mut tuple,
                &mut buffer,
                false,
            );
        // the mark of htup_details.h: an invalid block and an offset that no page has
        // of a subtransaction that was rolled back the mark is still there
        let moved = found && {
            let next = (*tuple.t_data).t_ctid;
            let marked = next.ip_blkid.bi_hi == u16::MAX
                && next.ip_blkid.bi_lo == u16::MAX
                && next.ip_posid == MOVED_PARTITIONS;
            let deleter = (*tuple.t_data).t_choice.t_heap.t_xmax;
            let is_multi = u32::from((*tuple.t_data).t_infomask) & pg_sys::HEAP_XMAX_IS_MULTI != 0;
            let deleter =
                if is_multi { pg_sys::HeapTupleGetUpdateXid(tuple.t_data) } else { deleter };
            marked && pg_sys::TransactionIdIsCurrentTransactionId(deleter)
        };
        if found {
            pg_sys::ReleaseBuffer(buffer);
        }
        pg_sys::relation_close(table, pg_sys::AccessShareLock as i32);
        moved
    }
}

/// `MovedPartitionsOffsetNumber`
const MOVED_PARTITIONS: u16 = 0xfffd;
