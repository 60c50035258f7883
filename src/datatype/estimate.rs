//! Selectivity of `=` and `<>`, from the number of distinct tokens. The built-in estimators would
//! evaluate the other side, which needs keys and rights, while planning.

use pgrx::pg_extern;
use pgrx::pg_sys;

use crate::call::{Answer, Call};

/// The share of rows that are not NULL, and the share that equal one value.
fn shares(call: &Call) -> (f64, f64) {
    let root: *mut pg_sys::PlannerInfo = call.pointer(0);
    let arguments: *mut pg_sys::List = call.pointer(2);
    let relation = call.int(3);
    // SAFETY: PostgreSQL calls an estimator with the planner's state and the operator's two
    // arguments; the statistics tuple is released as selfuncs.h does
    unsafe {
        let mut shares = (1.0, 0.005);
        for index in 0..(*arguments).length.min(2) {
            let node = pg_sys::list_nth(arguments, index).cast::<pg_sys::Node>();
            let mut variable = pg_sys::VariableStatData::default();
            pg_sys::examine_variable(root, node, relation, &mut variable);
            if !variable.rel.is_null() {
                shares = of_variable(&mut variable);
            }
            if !variable.statsTuple.is_null()
                && let Some(free) = variable.freefunc
            {
                free(variable.statsTuple);
            }
            if !variable.rel.is_null() {
                break;
            }
        }
        shares
    }
}

/// # Safety
/// `variable` was filled by examine_variable and has a relation.
unsafe fn of_variable(variable: &mut pg_sys::VariableStatData) -> (f64, f64) {
    // SAFETY: the caller's; a statistics tuple is a row of pg_statistic
    unsafe {
        let present = if variable.statsTuple.is_null() {
            1.0
        } else {
            let statistics: *const pg_sys::FormData_pg_statistic =
                pg_sys::heap_tuple_get_struct(variable.statsTuple);
            1.0 - f64::from((*statistics).stanullfrac)
        };
        let mut is_default = false;
        let distinct = pg_sys::get_variable_numdistinct(variable, &mut is_default);
        (present, (present / distinct.max(1.0)).clamp(0.0, 1.0))
    }
}

#[pg_extern(sql = false)]
fn encrypted_eqsel(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    shares(&Call::new(fcinfo)).1.into()
}

#[pg_extern(sql = false)]
fn encrypted_neqsel(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    let (present, equal) = shares(&Call::new(fcinfo));
    (present - equal).clamp(0.0, 1.0).into()
}
