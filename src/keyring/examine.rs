//! What `doctor()` learns about the keyring: what is wrong with it, and nothing that is in it but
//! names.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pgrx::{pg_extern, pg_sys};

use super::cache::OpenKey;
use super::file::KeyringFile;
use super::foreign;
use super::locked::Locked;
use super::provider::Provider;
use super::root::Root;
use super::unwrap::configured_path;
use crate::call::{Answer, Rows};
use crate::error::Result;

/// `keyring_entries() → SETOF (root, provider, state, is_public, folder_is_shared, problem, hint)`:
/// the keyring file, whose root is NULL, and each root key that it names, all read anew and tried.
#[pg_extern(sql = false)]
fn keyring_entries(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    let rows = Rows::of(fcinfo);
    let push = |root, provider, state, file: Option<&Path>, result: Result<()>| {
        let problem = result.err();
        rows.push([
            Answer::optional_text(root),
            Answer::optional_text(provider),
            Answer::optional_text(state),
            file.is_some_and(is_public).into(),
            file.is_some_and(is_in_shared_folder).into(),
            Answer::optional_text(problem.as_ref().map(ToString::to_string).as_deref()),
            Answer::optional_text(problem.and_then(|problem| problem.hint()).as_deref()),
        ]);
    };
    let file = configured_path().and_then(|path| {
        let file = KeyringFile::read(Path::new(&path))?;
        push(None, None, None, Some(Path::new(&path)), Ok(()));
        Ok(file)
    });
    match file {
        Err(error) => push(None, None, None, None, Err(error)),
        Ok(file) => {
            for (name, entry) in &file.roots {
                let path = entry.provider.path();
                let held = entry.provider.hold(name);
                let result = held.and_then(|held| Root::new(name, entry.state, held).verify());
                let (kind, state) = (entry.provider.name(), entry.state.name());
                push(Some(name.as_str()), Some(kind), Some(state), path, result);
            }
        }
    }
    Answer::NULL
}

/// `adoption_keys() → SETOF (name, provider, account, folder_is_shared, is_guessable, problem, hint)`:
/// each key of other software that the keyring file names, read anew and tried.
#[pg_extern(sql = false)]
fn adoption_keys(fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    let rows = Rows::of(fcinfo);
    // what is wrong with the file as a whole, keyring_entries() says
    let file = configured_path().and_then(|path| KeyringFile::read(Path::new(&path)));
    for (file, name) in file.iter().flat_map(|file| file.foreign.keys().map(move |n| (file, n))) {
        let examined = foreign::examine(file, name);
        let provider = examined.provider.as_ref();
        let path = provider.and_then(Provider::path);
        let problem = examined.result.err();
        rows.push([
            Answer::text(name),
            Answer::optional_text(provider.map(Provider::name)),
            Answer::optional_text(examined.account.as_deref()),
            path.is_some_and(is_in_shared_folder).into(),
            examined.is_guessable.into(),
            Answer::optional_text(problem.as_ref().map(ToString::to_string).as_deref()),
            Answer::optional_text(problem.and_then(|problem| problem.hint()).as_deref()),
        ]);
    }
    Answer::NULL
}

/// Whether every user can read a file.
fn is_public(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|file| file.mode() & 0o004 != 0)
}

/// Whether another user than root and the server's could put another file in the place of this
/// one: by writing to a folder above it.
fn is_in_shared_folder(file: &Path) -> bool {
    let Ok(real) = fs::canonicalize(file) else { return false };
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    real.ancestors().skip(1).filter_map(|folder| fs::metadata(folder).ok()).any(|folder| {
        // in a sticky folder, such as /tmp, everyone can replace his own files only
        let sticky = folder.mode() & 0o1000 != 0;
        let by_group = folder.mode() & 0o020 != 0 && folder.gid() != 0 && folder.gid() != group;
        let by_others = folder.mode() & 0o002 != 0;
        let of_another = folder.uid() != 0 && folder.uid() != user;
        of_another || !sticky && (by_group || by_others)
    })
}

/// `lockable_keys() → bigint`: how many field keys a session can set up in locked memory; NULL if
/// there is no limit.
#[pg_extern(sql = false)]
fn lockable_keys(_fcinfo: pg_sys::FunctionCallInfo) -> Answer {
    let limit = Locked::<OpenKey>::limit();
    limit.map_or(Answer::NULL, |keys| i64::try_from(keys).unwrap_or(i64::MAX).into())
}
