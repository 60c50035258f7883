//! ANALYZE: the share of NULLs, the width, and the number of distinct tokens. No most common
//! values and no histogram: they would copy values into the statistics.

use std::collections::HashMap;

use fieldcrypt_core::envelope::{FIXED_HEADER_LENGTH, Header};
use fieldcrypt_core::token::{self, IndexToken};
use pgrx::pg_sys::{self, Datum};
use pgrx::{pg_extern, pg_guard};

use crate::call::{Answer, Call, varlena_prefix};

/// Rows sampled per unit of the statistics target, as PostgreSQL's own types.
const ROWS_PER_TARGET: i32 = 300;

#[pg_extern(sql = false)]
fn encrypted_typanalyze(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    let statistics: *mut pg_sys::VacAttrStats = Call::new(fcinfo).pointer(0);
    // SAFETY: ANALYZE passes the statistics of one column
    unsafe {
        let target = crate::compat::statistics_target(statistics);
        (*statistics).compute_stats = Some(compute);
        (*statistics).minrows = ROWS_PER_TARGET * target;
    }
    true.into()
}

#[pg_guard]
unsafe extern "C-unwind" fn compute(
    statistics: *mut pg_sys::VacAttrStats,
    fetch: pg_sys::AnalyzeAttrFetchFunc,
    rows: i32,
    total: f64,
) {
    let Some(fetch) = fetch else { return };
    let mut sample = Sample::default();
    for row in 0..rows {
        pgrx::check_for_interrupts!();
        let mut is_null = false;
        // SAFETY: ANALYZE passes a function that fetches one of `rows` sampled values
        unsafe {
            let datum = fetch(statistics, row, &mut is_null);
            if is_null {
                sample.nulls += 1;
            } else {
                sample.take(datum);
            }
        }
    }
    let present = sample.present();
    if rows <= 0 {
        return;
    }
    // SAFETY: as above
    unsafe {
        let statistics = &mut *statistics;
        statistics.stats_valid = true;
        statistics.stanullfrac = (f64::from(sample.nulls) / f64::from(rows)) as f32;
        statistics.stawidth = if present > 0.0 { (sample.width / present) as i32 } else { 0 };
        statistics.stadistinct = sample.distinct(f64::from(rows), total) as f32;
    }
}

#[derive(Default)]
struct Sample {
    nulls: i32,
    width: f64,
    tokens: HashMap<IndexToken, u32>,
    /// Values without a token: each its own.
    others: u32,
}

impl Sample {
    /// # Safety
    /// `datum` is a value of an encrypted type.
    unsafe fn take(&mut self, datum: Datum) {
        // SAFETY: encrypted types are varlenas
        let (prefix, size) =
            unsafe { (varlena_prefix(datum, 512), pg_sys::toast_datum_size(datum)) };
        self.width += size as f64;
        let token = Header::read(prefix).ok().and_then(|(_, length)| {
            token::equality_token(prefix.get(FIXED_HEADER_LENGTH..length)?)
        });
        match token {
            Some(token) => *self.tokens.entry(token).or_default() += 1,
            None => self.others += 1,
        }
    }

    fn present(&self) -> f64 {
        self.tokens.values().map(|&count| f64::from(count)).sum::<f64>() + f64::from(self.others)
    }

    /// `stadistinct`: a count, or if that grows with the table, minus a share of its rows. The
    /// estimate is PostgreSQL's (Haas and Stokes, IBM research report RJ 10025):
    /// n·d / (n − f1 + f1·n/N).
    fn distinct(&self, rows: f64, total: f64) -> f64 {
        let n = self.present();
        let once = self.tokens.values().filter(|&&count| count == 1).count() as f64
            + f64::from(self.others);
        let distinct = self.tokens.len() as f64 + f64::from(self.others);
        if n == 0.0 {
            return 0.0;
        }
        let present_share = n / rows;
        if once >= n {
            // every value once: distinct for every row that is not NULL
            return -present_share;
        }
        let whole = total * present_share;
        let estimate = (n * distinct / (n - once + once * n / whole)).clamp(distinct, whole);
        let estimate = (estimate + 0.5).floor();
        if estimate > 0.1 * total { -(estimate / total) } else { estimate }
    }
}
