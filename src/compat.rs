//! Where the supported versions of PostgreSQL differ.

/// The catalog of role memberships.
pub mod membership {
    #[cfg(feature = "pg15")]
    use pgrx::pg_sys;
    use pgrx::pg_sys::Oid;

    use crate::catalog::scan::Row;

    /// `pg_auth_members`; the OIDs of system catalogs never change.
    pub const TABLE: Oid = Oid::from_u32(1261);
    /// Its index by member and role, `pg_auth_members_member_role_index`.
    pub const BY_MEMBER: Oid = Oid::from_u32(2695);

    #[cfg(feature = "pg15")]
    mod columns {
        pub const ROLE: usize = 1;
        pub const MEMBER: i16 = 2;
    }
    #[cfg(not(feature = "pg15"))]
    mod columns {
        pub const ROLE: usize = 2;
        pub const MEMBER: i16 = 3;
        pub const INHERIT: usize = 6;
    }
    pub use columns::{MEMBER, ROLE};

    /// Whether a member inherits at all: before 16 that is a property of the member.
    #[cfg(feature = "pg15")]
    pub fn inherits(member: Oid) -> bool {
        // SAFETY: a syscache look-up; the tuple is released before the flag is used
        unsafe {
            let cache = pg_sys::SysCacheIdentifier::AUTHOID as i32;
            let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(member));
            if tuple.is_null() {
                return false;
            }
            let form: *const pg_sys::FormData_pg_authid = pg_sys::heap_tuple_get_struct(tuple);
            let inherits = (*form).rolinherit;
            pg_sys::ReleaseSysCache(tuple);
            inherits
        }
    }

    /// Whether a member inherits at all: from 16 each membership says.
    #[cfg(not(feature = "pg15"))]
    pub fn inherits(_member: Oid) -> bool {
        true
    }

    /// Whether a membership hands on its rights.
    #[cfg(feature = "pg15")]
    pub fn row_inherits(_row: &Row) -> bool {
        true
    }

    /// Whether a membership hands on its rights.
    #[cfg(not(feature = "pg15"))]
    pub fn row_inherits(row: &Row) -> bool {
        row.boolean(columns::INHERIT)
    }
}

/// What PostgreSQL calls for each node of a tree that it copies.
pub type Mutator = unsafe extern "C-unwind" fn(
    *mut pgrx::pg_sys::Node,
    *mut std::ffi::c_void,
) -> *mut pgrx::pg_sys::Node;

/// `query_tree_mutator`: before 16 a function that is declared without the mutator's parameters,
/// from then on a macro.
///
/// # Safety
/// As PostgreSQL's: `query` is valid, and `mutator` returns valid nodes.
pub unsafe fn query_tree_mutator(
    query: *mut pgrx::pg_sys::Query,
    mutator: Mutator,
    context: *mut std::ffi::c_void,
) -> *mut pgrx::pg_sys::Query {
    // SAFETY: the caller's; the pointer is called with the parameters that it has
    unsafe {
        #[cfg(feature = "pg15")]
        return pgrx::pg_sys::query_tree_mutator(query, Some(undeclared(mutator)), context, 0);
        #[cfg(not(feature = "pg15"))]
        return pgrx::pg_sys::query_tree_mutator_impl(query, Some(mutator), context, 0);
    }
}

/// `expression_tree_mutator`, as above.
///
/// # Safety
/// As PostgreSQL's: `node` is valid, and `mutator` returns valid nodes.
pub unsafe fn expression_tree_mutator(
    node: *mut pgrx::pg_sys::Node,
    mutator: Mutator,
    context: *mut std::ffi::c_void,
) -> *mut pgrx::pg_sys::Node {
    // SAFETY: the caller's; the pointer is called with the parameters that it has
    unsafe {
        #[cfg(feature = "pg15")]
        return pgrx::pg_sys::expression_tree_mutator(node, Some(undeclared(mutator)), context);
        #[cfg(not(feature = "pg15"))]
        return pgrx::pg_sys::expression_tree_mutator_impl(node, Some(mutator), context);
    }
}

#[cfg(feature = "pg15")]
type Undeclared = unsafe extern "C-unwind" fn() -> *mut pgrx::pg_sys::Node;

#[cfg(feature = "pg15")]
fn undeclared(mutator: Mutator) -> Undeclared {
    // SAFETY: both are function pointers; PostgreSQL casts it back before it calls
    unsafe { std::mem::transmute::<Mutator, Undeclared>(mutator) }
}

/// The statistics target of a column that ANALYZE is at.
///
/// # Safety
/// `statistics` is what ANALYZE passes to a type's function.
pub unsafe fn statistics_target(statistics: *mut pgrx::pg_sys::VacAttrStats) -> i32 {
    // SAFETY: the caller's; before 17 the target is the column's own
    unsafe {
        #[cfg(feature = "pg15")]
        let target = (*(*statistics).attr).attstattarget;
        #[cfg(feature = "pg16")]
        let target = i32::from((*(*statistics).attr).attstattarget);
        #[cfg(feature = "pg18")]
        let target = (*statistics).attstattarget;
        if target < 0 { pgrx::pg_sys::default_statistics_target } else { target }
    }
}
