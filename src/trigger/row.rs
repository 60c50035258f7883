//! The row that a trigger was called for.

use std::borrow::Cow;
use std::ffi::CStr;

use pgrx::pg_sys::{self, Datum, NodeTag, Oid};

use crate::backend;
use crate::call::varlena_bytes;
use crate::encoding;
use crate::error::{Error, Result};

/// What PostgreSQL says about a call, if it calls as a trigger.
pub fn data(fcinfo: pg_sys::FunctionCallInfo) -> Option<*mut pg_sys::TriggerData> {
    // SAFETY: the context is null or a node, whose tag says whether it is trigger data
    unsafe {
        let context = (*fcinfo).context;
        let is_trigger = !context.is_null() && (*context).type_ == NodeTag::T_TriggerData;
        is_trigger.then(|| context.cast())
    }
}

/// The row of a trigger `BEFORE INSERT OR UPDATE … FOR EACH ROW`.
///
/// Invariant: it lives while the trigger runs, and so do its relation, tuples and arguments.
pub struct Row {
    data: *mut pg_sys::TriggerData,
    new: *mut pg_sys::HeapTupleData,
    old: Option<*mut pg_sys::HeapTupleData>,
}

/// The old or the new row.
#[derive(Clone, Copy)]
pub enum Which {
    Old,
    New,
}

impl Row {
    /// The row, and the arguments of the trigger; `function` creates the trigger.
    pub fn of(
        fcinfo: pg_sys::FunctionCallInfo,
        function: &'static str,
    ) -> Result<(Self, Vec<&'static CStr>)> {
        let misuse = || Error::InvalidArgument {
            name: "trigger",
            hint: format!("Use SELECT fieldcrypt.{function}(...)."),
        };
        let data = data(fcinfo).ok_or_else(misuse)?;
        // SAFETY: the trigger data is valid while the trigger runs, with NUL-terminated arguments
        unsafe {
            let event = (*data).tg_event;
            let update = event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE;
            let insert = event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_INSERT;
            let row_before = pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_BEFORE;
            if event & row_before != row_before || !(insert || update) {
                return Err(misuse());
            }
            let row = if update {
                Self { data, new: (*data).tg_newtuple, old: Some((*data).tg_trigtuple) }
            } else {
                Self { data, new: (*data).tg_trigtuple, old: None }
            };
            let trigger = (*data).tg_trigger;
            let count = usize::try_from((*trigger).tgnargs).unwrap_or(0);
            let arguments = (0..count).map(|i| CStr::from_ptr(*(*trigger).tgargs.add(i))).collect();
            Ok((row, arguments))
        }
    }

    fn descriptor(&self) -> pg_sys::TupleDesc {
        // SAFETY: the trigger's relation is open while the trigger runs
        unsafe { (*(*self.data).tg_relation).rd_att }
    }

    fn tuple(&self, which: Which) -> Option<*mut pg_sys::HeapTupleData> {
        match which {
            Which::Old => self.old,
            Which::New => Some(self.new),
        }
    }

    /// Whether there is an old row.
    pub fn is_update(&self) -> bool {
        self.old.is_some()
    }

    /// The table.
    pub fn table(&self) -> Oid {
        // SAFETY: the trigger's relation is valid while it runs
        unsafe { (*(*self.data).tg_relation).rd_id }
    }

    /// The table and the old row's place in it; of an insert, the new row's, which means nothing.
    pub fn place(&self) -> (Oid, pg_sys::ItemPointerData) {
        // SAFETY: the trigger's tuples are valid while it runs
        let place = unsafe { (*self.old.unwrap_or(self.new)).t_self };
        (self.table(), place)
    }

    /// Whether the current user writes as the table's owner: by himself, or in what a foreign key
    /// does (`ON DELETE SET NULL`), which runs as the owner too.
    pub fn is_written_by_owner(&self) -> bool {
        // SAFETY: as in `descriptor`; the others are look-ups
        unsafe {
            let owner = (*(*(*self.data).tg_relation).rd_rel).relowner;
            pg_sys::InLocalUserIdChange() || pg_sys::has_privs_of_role(backend::user(), owner)
        }
    }

    /// Whether the table is a partition, so that an update may move the row to another.
    pub fn is_in_partition(&self) -> bool {
        // SAFETY: as in `descriptor`
        unsafe { (*(*(*self.data).tg_relation).rd_rel).relispartition }
    }

    /// The numbers of the columns.
    pub fn columns(&self) -> Vec<i32> {
        // SAFETY: as in `descriptor`; a column that was dropped has no type
        unsafe {
            let all = 1..=(*self.descriptor()).natts;
            all.filter(|&n| pg_sys::SPI_gettypeid(self.descriptor(), n) != Oid::INVALID).collect()
        }
    }

    /// The number of a column.
    pub fn column(&self, name: &CStr) -> Result<i32> {
        // SAFETY: the descriptor is valid and the name NUL-terminated
        let number = unsafe { pg_sys::SPI_fnumber(self.descriptor(), name.as_ptr()) };
        if number > 0 {
            return Ok(number);
        }
        Err(Error::ColumnMissing(name.to_string_lossy().into_owned()))
    }

    /// The number of a column of that type.
    pub fn column_of(&self, name: &CStr, kind: Oid) -> Result<i32> {
        let number = self.column(name)?;
        if self.base_type(number) == kind {
            return Ok(number);
        }
        Err(Error::ColumnType(name.to_string_lossy().into_owned()))
    }

    /// The type of a column, seen through domains.
    pub fn base_type(&self, number: i32) -> Oid {
        // SAFETY: the number is one of the descriptor's
        unsafe { pg_sys::getBaseType(pg_sys::SPI_gettypeid(self.descriptor(), number)) }
    }

    /// The type modifier of a column, seen through domains.
    pub fn typmod(&self, number: i32) -> i32 {
        let (mut kind, mut typmod, mut collation) = (Oid::INVALID, -1, Oid::INVALID);
        // SAFETY: the number is one of the relation's columns
        unsafe {
            pg_sys::get_atttypetypmodcoll(
                (*(*self.data).tg_relation).rd_id,
                number as i16,
                &mut kind,
                &mut typmod,
                &mut collation,
            );
            pg_sys::getBaseTypeAndTypmod(kind, &mut typmod);
        }
        typmod
    }

    /// A column's value; `None` is NULL, or no such row.
    pub fn datum(&self, which: Which, number: i32) -> Option<Datum> {
        let tuple = self.tuple(which)?;
        let mut is_null = false;
        // SAFETY: the tuple fits the descriptor, and the number is one of its columns
        let datum =
            unsafe { pg_sys::SPI_getbinval(tuple, self.descriptor(), number, &mut is_null) };
        (!is_null).then_some(datum)
    }

    /// A column's value as text.
    pub fn text(&self, which: Which, number: i32) -> Result<Option<Cow<'_, str>>> {
        let Some(datum) = self.datum(which, number) else { return Ok(None) };
        // SAFETY: the number is one of the descriptor's
        let mut kind = unsafe { pg_sys::SPI_gettypeid(self.descriptor(), number) };
        if !matches!(kind, pg_sys::TEXTOID | pg_sys::VARCHAROID) {
            kind = self.base_type(number);
        }
        // SAFETY: a text or varchar is a varlena; other types have an output function, which
        // returns a NUL-terminated text
        let text = unsafe {
            match kind {
                pg_sys::TEXTOID | pg_sys::VARCHAROID => varlena_bytes(datum),
                // the padding of char(n) is no part of the value, as in its cast to text
                pg_sys::BPCHAROID => {
                    let padded = varlena_bytes(datum);
                    let length =
                        padded.iter().rposition(|&byte| byte != b' ').map_or(0, |at| at + 1);
                    &padded[..length]
                }
                // as its cast to text, which the CHECK uses; its output is another
                pg_sys::BOOLOID if datum.value() & 1 == 1 => b"true",
                pg_sys::BOOLOID => b"false",
                _ => {
                    let mut output = Oid::INVALID;
                    let mut is_varlena = false;
                    pg_sys::getTypeOutputInfo(kind, &mut output, &mut is_varlena);
                    CStr::from_ptr(pg_sys::OidOutputFunctionCall(output, datum)).to_bytes()
                }
            }
        };
        encoding::to_utf8(text).map(Some)
    }

    /// Gives the new row another value in a column; `None` is NULL.
    pub fn set(&mut self, number: i32, value: Option<Datum>) {
        let (mut number, mut is_null) = (number, value.is_none());
        let mut value = value.unwrap_or(Datum::null());
        // SAFETY: the tuple fits the descriptor, and the caller's value is of the column's type
        self.new = unsafe {
            pg_sys::heap_modify_tuple_by_cols(
                self.new,
                self.descriptor(),
                1,
                &mut number,
                &mut value,
                &mut is_null,
            )
        };
    }

    /// The new row, as a trigger returns it.
    pub fn into_datum(self) -> Datum {
        Datum::from(self.new)
    }
}
