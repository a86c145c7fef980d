//! Files of the data directory that another user has made. A command that root has run in a service's directory
//! leaves files that the service can't open, and "permission denied" does not say which, nor whose.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::store::FILE_NAME;

/// The error, and the first file that may be its reason.
pub(super) fn explained(source: io::Error, dir: &Path) -> io::Error {
    // It belongs to the process's effective user (proc_pid(5)).
    let me = std::fs::metadata("/proc/self").map(|process| process.uid());
    match (source.kind(), me) {
        (io::ErrorKind::PermissionDenied, Ok(me)) => match of_another(dir, me) {
            Some(said) => io::Error::new(source.kind(), format!("{source}; {said}")),
            None => source,
        },
        _ => source,
    }
}

fn of_another(dir: &Path, me: u32) -> Option<String> {
    let own = ["", "lock", "journal", FILE_NAME].map(|name| dir.join(name));
    own.iter().find_map(|path| {
        let owner = std::fs::metadata(path).ok()?.uid();
        (owner != me).then(|| {
            format!(
                "{} belongs to user {owner}, and this process is user {me}: run every command as the user that \
                 the server runs as (`sudo -u`), and give it what another has made (`chown -R`)",
                path.display()
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_user_is_named_with_both() {
        let dir = tempfile::tempdir().expect("a directory");
        let me = std::fs::metadata(dir.path()).expect("is there").uid();
        assert_eq!(of_another(dir.path(), me), None);
        let other = me + 1;
        let said = of_another(dir.path(), other).expect("it is another's");
        let expected = format!("belongs to user {me}, and this process is user {other}");
        assert!(said.contains(&expected) && said.contains("chown"), "{said}");
        let full = explained(io::ErrorKind::StorageFull.into(), dir.path());
        assert!(!full.to_string().contains("user"), "{full}");
    }
}
