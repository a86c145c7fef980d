//! What tests do to a store in SQLite that no engine offers: they look into its tables, and break it.

use std::cell::RefCell;
use std::path::Path;

use rusqlite::Connection;

use super::Sqlite;
use crate::store::Store;

impl Store {
    pub(super) fn sqlite(&self) -> &Sqlite {
        self.as_any().downcast_ref().expect("it is in SQLite")
    }

    pub(super) fn sqlite_mut(&mut self) -> &mut Sqlite {
        self.as_any_mut().downcast_mut().expect("it is in SQLite")
    }

    /// Its connection, to break it.
    pub(crate) fn connection(&self) -> &Connection {
        &self.sqlite().conn
    }

    /// Where its file is.
    pub(crate) fn path(&self) -> &Path {
        &self.sqlite().path
    }
}

/// Damages a page in the middle of a store, which nobody may have open.
pub(crate) fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).expect("a store");
    let page_bytes = 16 * 1024;
    let from = bytes.len() / page_bytes / 2 * page_bytes;
    bytes[from..from + page_bytes].fill(0xa5);
    std::fs::write(file, bytes).expect("writes");
}

thread_local! {
    static MEANWHILE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// Another program holds the write lock, and gives it back after `it`, once this connection waits for it.
pub(crate) fn while_it_waits(store: &mut Store, it: impl FnOnce() + 'static) {
    let other = Connection::open(&store.sqlite().path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    MEANWHILE.set(Some(Box::new(move || {
        other.execute_batch("COMMIT").unwrap();
        it();
    })));
    let again = |_| MEANWHILE.take().map(|it| it()).is_some();
    store.sqlite_mut().conn.busy_handler(Some(again)).unwrap();
}

/// Moves the store's files to a directory beside it.
pub(crate) fn move_away(path: &Path) {
    let away = path.parent().unwrap().join("away");
    std::fs::create_dir(&away).unwrap();
    for end in ["", "-wal", "-shm"] {
        let name = format!("{}{end}", path.file_name().unwrap().display());
        std::fs::rename(path.with_file_name(&name), away.join(&name)).unwrap();
    }
}
