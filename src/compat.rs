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

/// The session whose query this parallel worker runs, as the server's statistics know it; null if it
/// is not there.
pub fn parallel_leader() -> *const pgrx::pg_sys::PgBackendStatus {
    use pgrx::pg_sys;
    // SAFETY: what is copied lives until the transaction ends
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::pgstat_fetch_stat_beentry(pg_sys::ParallelLeaderBackendId);
        #[cfg(feature = "pg16")]
        return pg_sys::pgstat_get_beentry_by_backend_id(pg_sys::ParallelLeaderBackendId);
        #[cfg(feature = "pg18")]
        return pg_sys::pgstat_get_beentry_by_proc_number(pg_sys::ParallelLeaderProcNumber);
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

/// The columns of a table of a query, as a reference `whole` to its whole row has them: their names
/// and references to them.
///
/// # Safety
/// `query` is valid, and `whole` a reference, in it or further in, to a row of one of its tables.
pub unsafe fn columns_of_row(
    query: *mut pgrx::pg_sys::Query,
    whole: *mut pgrx::pg_sys::Var,
) -> (*mut pgrx::pg_sys::List, *mut pgrx::pg_sys::List) {
    let (mut names, mut columns) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the caller's; a reference names a table of its query
    unsafe {
        let number = (*whole).varno;
        let table = pgrx::pg_sys::list_nth((*query).rtable, number - 1).cast();
        pgrx::pg_sys::expandRTE(
            table,
            number,
            i32::try_from((*whole).varlevelsup).unwrap_or(0),
            #[cfg(feature = "pg18")]
            (*whole).varreturningtype,
            (*whole).location,
            false,
            &mut names,
            &mut columns,
        );
        // from 16 on a reference says which outer joins can make it null
        #[cfg(not(feature = "pg15"))]
        for i in 0..(*columns).length {
            let column: *mut pgrx::pg_sys::Node = pgrx::pg_sys::list_nth(columns, i).cast();
            if (*column).type_ == pgrx::pg_sys::NodeTag::T_Var {
                (*column.cast::<pgrx::pg_sys::Var>()).varnullingrels = (*whole).varnullingrels;
            }
        }
    }
    (names, columns)
}

/// Adds a column to those of a table that a query reads.
///
/// # Safety
/// `table` is one of the tables of `query`.
pub unsafe fn select_column(
    query: *mut pgrx::pg_sys::Query,
    table: *mut pgrx::pg_sys::RangeTblEntry,
    column: i16,
) {
    let member = i32::from(column) - pgrx::pg_sys::FirstLowInvalidHeapAttributeNumber;
    // SAFETY: the caller's; before 16 the columns stand at the table
    unsafe {
        #[cfg(feature = "pg15")]
        let selected = &mut (*table).selectedCols;
        #[cfg(not(feature = "pg15"))]
        let selected =
            &mut (*pgrx::pg_sys::getRTEPermissionInfo((*query).rteperminfos, table)).selectedCols;
        *selected = pgrx::pg_sys::bms_add_member(*selected, member);
    }
    let _ = query;
}

/// The expressions by which a query groups, from 18 on, where its targets refer to them.
///
/// # Safety
/// `query` is valid.
#[cfg(not(feature = "pg18"))]
pub unsafe fn group_expressions(
    _query: *mut pgrx::pg_sys::Query,
) -> Option<*mut pgrx::pg_sys::List> {
    None
}

/// The expressions by which a query groups, from 18 on, where its targets refer to them.
///
/// # Safety
/// `query` is valid.
#[cfg(feature = "pg18")]
pub unsafe fn group_expressions(
    query: *mut pgrx::pg_sys::Query,
) -> Option<*mut pgrx::pg_sys::List> {
    // SAFETY: the caller's; parse analysis puts that entry last
    unsafe {
        if !(*query).hasGroupRTE {
            return None;
        }
        let table = last_table(query);
        ((*table).rtekind == pgrx::pg_sys::RTEKind::RTE_GROUP).then_some((*table).groupexprs)
    }
}

/// Makes targets and HAVING hold the expressions by which a query groups, as before 18.
///
/// # Safety
/// `query` is valid, and has [`group_expressions`].
#[cfg(not(feature = "pg18"))]
pub unsafe fn flatten_groups(_query: *mut pgrx::pg_sys::Query) {}

/// Makes targets and HAVING hold the expressions by which a query groups, as before 18.
///
/// # Safety
/// `query` is valid, and has [`group_expressions`].
#[cfg(feature = "pg18")]
pub unsafe fn flatten_groups(query: *mut pgrx::pg_sys::Query) {
    // SAFETY: the caller's; nothing else refers to the last entry
    unsafe {
        let flatten =
            move |node| pgrx::pg_sys::flatten_group_exprs(std::ptr::null_mut(), query, node);
        (*query).targetList = flatten((*query).targetList.cast()).cast();
        (*query).havingQual = flatten((*query).havingQual);
        let tables = (*query).rtable;
        (*query).rtable = pgrx::pg_sys::list_truncate(tables, (*tables).length - 1);
        (*query).hasGroupRTE = false;
    }
}

/// # Safety
/// `query` has a table.
#[cfg(feature = "pg18")]
unsafe fn last_table(query: *mut pgrx::pg_sys::Query) -> *mut pgrx::pg_sys::RangeTblEntry {
    // SAFETY: the caller's
    unsafe {
        let tables = (*query).rtable;
        pgrx::pg_sys::list_nth(tables, (*tables).length - 1).cast()
    }
}

/// Whether a role owns a database, or may act as its owner.
pub fn owns_database(database: pgrx::pg_sys::Oid, role: pgrx::pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up; the database exists
    unsafe {
        #[cfg(feature = "pg15")]
        return pgrx::pg_sys::pg_database_ownercheck(database, role);
        #[cfg(not(feature = "pg15"))]
        return pgrx::pg_sys::object_ownercheck(pgrx::pg_sys::DatabaseRelationId, database, role);
    }
}

/// Whether the current user may VACUUM a table. If not, a warning says so.
///
/// # Safety
/// `class` is the row of `table` in `pg_class`.
pub unsafe fn may_vacuum(table: pgrx::pg_sys::Oid, class: pgrx::pg_sys::Form_pg_class) -> bool {
    use pgrx::pg_sys;
    // SAFETY: the caller's
    unsafe {
        #[cfg(not(feature = "pg18"))]
        return pg_sys::vacuum_is_relation_owner(table, class, pg_sys::VACOPT_VACUUM);
        #[cfg(feature = "pg18")]
        return pg_sys::vacuum_is_permitted_for_relation(table, class, pg_sys::VACOPT_VACUUM);
    }
}

/// Writes a table anew, with its TOAST table and indexes, as VACUUM FULL does: it keeps rows that
/// older snapshots may see.
///
/// # Safety
/// `table` is one with a file, or a materialized view.
pub unsafe fn rewrite_table(table: pgrx::pg_sys::Oid) {
    use pgrx::pg_sys;

    /// As in `commands/cluster.h`.
    #[repr(C)]
    struct ClusterParams {
        options: pg_sys::bits32,
    }
    #[cfg(not(feature = "pg18"))]
    type Table = pg_sys::Oid;
    #[cfg(feature = "pg18")]
    type Table = pg_sys::Relation;
    unsafe extern "C-unwind" {
        /// Without an index it keeps the order of the rows. From 18 on its caller opens the table,
        /// and it closes it.
        fn cluster_rel(table: Table, index: pg_sys::Oid, parameters: *mut ClusterParams);
    }

    // SAFETY: the caller's; errors of the function are handed on as those of any other
    unsafe {
        #[cfg(feature = "pg18")]
        let table = pg_sys::table_open(table, pg_sys::AccessExclusiveLock as i32);
        let mut parameters = ClusterParams { options: 0 };
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            cluster_rel(table, pg_sys::Oid::INVALID, &mut parameters);
        });
    }
}
