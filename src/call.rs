//! Arguments and results of the functions that PostgreSQL calls.
//!
//! Invariant: which type stands at which place is what the declaration in `sql/` says; every
//! accessor relies on that and on nothing else. STRICT functions never see NULL.

use std::borrow::Cow;
use std::ffi::CStr;

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::pg_sys::{self, Datum};

use crate::backend;
use crate::encoding;
use crate::error::{Error, Result};

/// One call of a function.
#[derive(Clone, Copy)]
pub struct Call(pg_sys::FunctionCallInfo);

impl Call {
    /// The call that PostgreSQL is making.
    pub fn new(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        Self(fcinfo)
    }

    /// The function that is called; 0 where it is called without being looked up.
    pub fn function(&self) -> pg_sys::Oid {
        // SAFETY: flinfo is null or what PostgreSQL has looked up
        unsafe { (*self.0).flinfo.as_ref() }.map_or(pg_sys::Oid::INVALID, |info| info.fn_oid)
    }

    /// The expression that is this call; null where there is none.
    pub fn expression(&self) -> *mut pg_sys::Node {
        // SAFETY: as in `function`
        unsafe { (*self.0).flinfo.as_ref() }.map_or(std::ptr::null_mut(), |info| info.fn_expr)
    }

    /// The type of the argument in the statement, where the declaration leaves it open.
    pub fn argument_type(&self, index: i32) -> pg_sys::Oid {
        // SAFETY: flinfo is null or what PostgreSQL has looked up; it gives 0 where it is not known
        unsafe { pg_sys::get_fn_expr_argtype((*self.0).flinfo, index) }
    }

    /// The raw argument.
    pub fn datum(&self, index: usize) -> Datum {
        // SAFETY: PostgreSQL passes as many arguments as the function is declared with
        unsafe { (*self.0).args.as_slice(index + 1)[index].value }
    }

    /// Whether the argument is NULL.
    pub fn is_null(&self, index: usize) -> bool {
        // SAFETY: as in `datum`
        unsafe { (*self.0).args.as_slice(index + 1)[index].isnull }
    }

    /// The bytes of a varlena argument, detoasted.
    pub fn bytes(&self, index: usize) -> &[u8] {
        // SAFETY: the declaration says that this argument is a varlena, and it is not null
        unsafe { varlena_bytes(self.datum(index)) }
    }

    /// A text argument, as UTF-8.
    pub fn text(&self, index: usize) -> Result<Cow<'_, str>> {
        encoding::to_utf8(self.bytes(index))
    }

    /// A text argument that must not be NULL, in a function that is called with NULL.
    pub fn required_text(&self, index: usize, name: &'static str) -> Result<Cow<'_, str>> {
        if self.is_null(index) { Err(Error::Null(name)) } else { self.text(index) }
    }

    /// A text argument that may be NULL.
    pub fn optional_text(&self, index: usize) -> Result<Option<Cow<'_, str>>> {
        if self.is_null(index) { Ok(None) } else { self.text(index).map(Some) }
    }

    /// A text array argument that may be NULL.
    pub fn texts(&self, index: usize) -> Result<Option<Vec<String>>> {
        if self.is_null(index) {
            return Ok(None);
        }
        // SAFETY: the declaration says text[]
        unsafe { texts(self.datum(index)) }.map(Some)
    }

    /// A cstring argument.
    pub fn cstring(&self, index: usize) -> &CStr {
        // SAFETY: the declaration says cstring, NUL-terminated by convention
        unsafe { CStr::from_ptr(self.datum(index).cast_mut_ptr()) }
    }

    /// An int4 argument.
    pub fn int(&self, index: usize) -> i32 {
        self.datum(index).value() as i32
    }

    /// A boolean argument.
    pub fn boolean(&self, index: usize) -> bool {
        self.datum(index).value() & 1 == 1
    }

    /// An int8 argument.
    pub fn bigint(&self, index: usize) -> i64 {
        self.datum(index).value() as i64
    }

    /// A pointer argument of type internal.
    pub fn pointer<T>(&self, index: usize) -> *mut T {
        self.datum(index).cast_mut_ptr()
    }

    /// What this place in the plan keeps from call to call, from the second call on; dropped with
    /// the plan. `None` at the first call, and where the function is called without a plan.
    #[allow(clippy::mut_from_ref, reason = "a call is handled by one function, which asks once")]
    pub fn state_from_second_call<T: Default>(&self) -> Option<&mut T> {
        let called = std::ptr::NonNull::<T>::dangling().as_ptr();
        // SAFETY: fn_extra belongs to this function at this place: it is null, a mark that is no
        // address of a T, or what was put there below, of the same T, since each function keeps
        // one type of state. It lives in fn_mcxt, whose reset drops it.
        unsafe {
            let flinfo = (*self.0).flinfo.as_mut()?;
            let extra = flinfo.fn_extra.cast::<T>();
            if extra.is_null() {
                flinfo.fn_extra = called.cast();
                return None;
            }
            if extra == called {
                flinfo.fn_extra = pgrx::PgMemoryContexts::For(flinfo.fn_mcxt)
                    .leak_and_drop_on_delete(T::default())
                    .cast();
            }
            flinfo.fn_extra.cast::<T>().as_mut()
        }
    }
}

/// A value as its type writes it.
///
/// # Safety
/// `value` is a valid value of that type.
pub unsafe fn output(kind: pg_sys::Oid, value: Datum) -> Result<String> {
    let (mut function, mut is_varlena) = (pg_sys::Oid::INVALID, false);
    // SAFETY: the caller's; an output function gives a NUL-terminated string
    unsafe {
        pg_sys::getTypeOutputInfo(kind, &mut function, &mut is_varlena);
        let written = pg_sys::OidOutputFunctionCall(function, value);
        encoding::to_utf8(CStr::from_ptr(written).to_bytes()).map(Cow::into_owned)
    }
}

/// The bytes of a varlena, detoasted.
///
/// # Safety
/// `datum` is a valid varlena that lives as long as `'a`.
pub unsafe fn varlena_bytes<'a>(datum: Datum) -> &'a [u8] {
    let pointer: *const pg_sys::varlena = datum.cast_mut_ptr();
    // SAFETY: the caller says it is a varlena; a plain one is used where it lies, which saves a
    // guarded call, and another is copied by PostgreSQL into the current memory context
    unsafe {
        let plain = pgrx::varatt_is_4b_u(pointer)
            || (pgrx::varatt_is_1b(pointer) && !pgrx::varatt_is_1b_e(pointer));
        let pointer =
            if plain { pointer } else { pg_sys::pg_detoast_datum_packed(pointer.cast_mut()) };
        pgrx::varlena_to_byte_slice(pointer)
    }
}

/// The first bytes of a varlena, `length` of them if there are as many: cheaper than
/// [`varlena_bytes`] for values that are stored out of line.
///
/// # Safety
/// As for [`varlena_bytes`].
pub unsafe fn varlena_prefix<'a>(datum: Datum, length: i32) -> &'a [u8] {
    let pointer: *mut pg_sys::varlena = datum.cast_mut_ptr();
    // SAFETY: the caller says it is a varlena
    unsafe {
        if pgrx::varatt_is_1b_e(pointer) {
            pgrx::varlena_to_byte_slice(pg_sys::pg_detoast_datum_slice(pointer, 0, length))
        } else {
            varlena_bytes(datum)
        }
    }
}

/// How values of a type lie in memory.
#[derive(Clone, Copy)]
struct Layout {
    length: i16,
    by_value: bool,
    align: std::ffi::c_char,
}

impl Layout {
    fn of(kind: pg_sys::Oid) -> Self {
        let mut layout = Self { length: 0, by_value: false, align: 0 };
        // SAFETY: a syscache look-up, which raises an error for a type that does not exist
        unsafe {
            pg_sys::get_typlenbyvalalign(
                kind,
                &mut layout.length,
                &mut layout.by_value,
                &mut layout.align,
            );
        }
        layout
    }
}

/// The elements of an array; `None` is NULL.
///
/// # Safety
/// `datum` is an array of `element`.
pub unsafe fn array_elements(datum: Datum, element: pg_sys::Oid) -> Vec<Option<Datum>> {
    let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
    let Layout { length, by_value, align } = Layout::of(element);
    // SAFETY: the caller's; deconstruct_array makes two arrays of `count` elements
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        pg_sys::deconstruct_array(
            array,
            element,
            i32::from(length),
            by_value,
            align,
            &mut values,
            &mut nulls,
            &mut count,
        );
        let count = usize::try_from(count).unwrap_or(0);
        (0..count).map(|i| (!*nulls.add(i)).then(|| *values.add(i))).collect()
    }
}

/// An array of `kind` made of another array's elements, with its dimensions. NULL stays NULL.
///
/// # Safety
/// `datum` is an array, and what `make` makes of its elements is of type `kind`.
pub unsafe fn map_array(
    datum: Datum,
    kind: pg_sys::Oid,
    make: impl Fn(Datum) -> Result<Option<Datum>>,
) -> Result<Datum> {
    // SAFETY: the caller's; the dimensions follow the array's header; the new array copies them
    // and its elements
    unsafe {
        let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let mut values = Vec::new();
        let mut nulls = Vec::new();
        for element in array_elements(Datum::from(array), (*array).elemtype) {
            let made = element.map(&make).transpose()?.flatten();
            nulls.push(made.is_none());
            values.push(made.unwrap_or(Datum::null()));
        }
        let dimensions = (*array).ndim;
        let sizes = array.add(1).cast::<i32>();
        let bounds = sizes.add(usize::try_from(dimensions).unwrap_or(0));
        let Layout { length, by_value, align } = Layout::of(kind);
        let made = pg_sys::construct_md_array(
            values.as_mut_ptr(),
            nulls.as_mut_ptr(),
            dimensions,
            sizes,
            bounds,
            kind,
            i32::from(length),
            by_value,
            align,
        );
        Ok(Datum::from(made))
    }
}

/// The elements of an array of cstrings.
///
/// # Safety
/// `datum` is an array of cstring.
pub unsafe fn cstring_elements<'a>(datum: Datum) -> Vec<&'a CStr> {
    // SAFETY: the caller's; a cstring is NUL-terminated
    unsafe {
        let elements = array_elements(datum, pg_sys::CSTRINGOID);
        elements.into_iter().flatten().map(|datum| CStr::from_ptr(datum.cast_mut_ptr())).collect()
    }
}

/// The elements of a text array, as UTF-8. NULL is an error.
///
/// # Safety
/// `datum` is an array of text.
pub unsafe fn texts(datum: Datum) -> Result<Vec<String>> {
    // SAFETY: the caller's; text is a varlena of int alignment
    unsafe {
        let elements = array_elements(datum, pg_sys::TEXTOID).into_iter();
        elements
            .map(|text| {
                let text = text.ok_or(Error::Null("element of a list"))?;
                Ok(encoding::to_utf8(varlena_bytes(text))?.into_owned())
            })
            .collect()
    }
}

/// A varlena being written, in the current memory context.
pub struct NewVarlena {
    pointer: *mut pg_sys::varlena,
    capacity: usize,
}

impl NewVarlena {
    /// Room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        let pointer = backend::allocate(capacity + pg_sys::VARHDRSZ).cast();
        Self { pointer, capacity }
    }

    /// The room.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `with_capacity` allocated that much behind the header; bytes need no initial
        // value that is valid, and every user writes before it reads
        unsafe {
            let data = self.pointer.cast::<u8>().add(pg_sys::VARHDRSZ);
            std::slice::from_raw_parts_mut(data, self.capacity)
        }
    }

    /// The varlena with its first `length` bytes.
    pub fn finish(self, length: usize) -> Datum {
        debug_assert!(length <= self.capacity);
        let size = length + pg_sys::VARHDRSZ;
        // SAFETY: the pointer is the start of a varlena with room for that size
        unsafe { pgrx::set_varsize_4b(self.pointer, size as i32) };
        Datum::from(self.pointer)
    }

    /// A varlena of `bytes`.
    pub fn of(bytes: &[u8]) -> Datum {
        let mut varlena = Self::with_capacity(bytes.len());
        varlena.bytes_mut().copy_from_slice(bytes);
        varlena.finish(bytes.len())
    }
}

/// The rows of a function that returns a set.
pub struct Rows(*mut pg_sys::ReturnSetInfo);

impl Rows {
    /// No rows yet. Raises an error where the call takes no set.
    pub fn of(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        // SAFETY: PostgreSQL's function checks the call, and makes the store and its descriptor,
        // which live until the statement ends
        unsafe {
            pg_sys::InitMaterializedSRF(fcinfo, 0);
            Self((*fcinfo).resultinfo.cast())
        }
    }

    /// Adds a row, with a value for each column that is declared.
    pub fn push<const N: usize>(&self, columns: [Answer; N]) {
        let mut nulls = [false; N];
        let mut values = [Datum::null(); N];
        for (i, column) in columns.into_iter().enumerate() {
            nulls[i] = column.0.is_none();
            values[i] = column.0.unwrap_or(Datum::null());
        }
        // SAFETY: both lists have as many elements as the function is declared with
        unsafe {
            let (store, descriptor) = ((*self.0).setResult, (*self.0).setDesc);
            pg_sys::tuplestore_putvalues(
                store,
                descriptor,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
        }
    }

    /// Adds the rows of the query that was run last by SPI, whose columns are those declared.
    pub fn push_queried(&self) {
        // SAFETY: null, or what SPI keeps until it is left; the store copies the rows
        unsafe {
            let Some(table) = pg_sys::SPI_tuptable.as_ref() else { return };
            for i in 0..usize::try_from(table.numvals).unwrap_or(0) {
                pg_sys::tuplestore_puttuple((*self.0).setResult, *table.vals.add(i));
            }
        }
    }
}

/// What a function returns: a datum of the declared type, or NULL.
pub struct Answer(Option<Datum>);

// the macro that declares it says `Result`, which is another one here
mod declared {
    pgrx::impl_sql_translatable!(super::Answer, "declared in sql/");
}

impl Answer {
    /// SQL NULL.
    pub const NULL: Self = Self(None);

    /// A datum of the declared type.
    pub fn datum(datum: Datum) -> Self {
        Self(Some(datum))
    }

    /// A text, given in UTF-8.
    pub fn text(text: &str) -> Self {
        Self(Some(encoding::from_utf8(text)))
    }

    /// A text that may be NULL.
    pub fn optional_text(text: Option<&str>) -> Self {
        text.map_or(Self::NULL, Self::text)
    }

    /// An array of texts, given in UTF-8.
    pub fn texts<T: AsRef<str>>(texts: &[T]) -> Self {
        let mut values: Vec<Datum> =
            texts.iter().map(|text| encoding::from_utf8(text.as_ref())).collect();
        let Layout { length, by_value, align } = Layout::of(pg_sys::TEXTOID);
        let count = i32::try_from(values.len()).unwrap_or(i32::MAX);
        // SAFETY: that many texts, which the array copies
        let array = unsafe {
            pg_sys::construct_array(
                values.as_mut_ptr(),
                count,
                pg_sys::TEXTOID,
                i32::from(length),
                by_value,
                align,
            )
        };
        Self(Some(Datum::from(array)))
    }

    /// A cstring of ASCII.
    pub fn ascii_cstring(text: &str) -> Self {
        // SAFETY: palloc returns that much memory or raises an error
        let pointer = unsafe { pg_sys::palloc(text.len() + 1) }.cast::<u8>();
        // SAFETY: the bytes and the NUL behind them fit into what was allocated
        unsafe {
            pointer.copy_from_nonoverlapping(text.as_ptr(), text.len());
            pointer.add(text.len()).write(0);
        }
        Self(Some(Datum::from(pointer)))
    }
}

impl From<bool> for Answer {
    fn from(value: bool) -> Self {
        Self(Some(Datum::from(value)))
    }
}

impl From<i32> for Answer {
    fn from(value: i32) -> Self {
        Self(Some(Datum::from(value)))
    }
}

impl From<i64> for Answer {
    fn from(value: i64) -> Self {
        Self(Some(Datum::from(value)))
    }
}

impl From<f64> for Answer {
    fn from(value: f64) -> Self {
        Self(Some(Datum::from(value.to_bits())))
    }
}

// SAFETY: the datum is of the declared type; that is this module's invariant
unsafe impl BoxRet for Answer {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        match self.0 {
            // SAFETY: see above
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}
