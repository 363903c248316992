//! The only unsafe code of these tests: SQLite's interface for file systems, and the kernel's locks.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    os::fd::AsRawFd as _,
    sync::Arc,
};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};

/// What SQLite asks of a file system. Handles are ours; errors are SQLite's codes.
pub(crate) trait FileSystem: Send + Sync {
    fn open(&self, name: &str, create: bool) -> Result<u64, c_int>;
    fn close(&self, handle: u64) -> Result<(), c_int>;
    fn delete(&self, name: &str) -> Result<(), c_int>;
    fn exists(&self, name: &str) -> bool;
    fn read(&self, handle: u64, bytes: &mut [u8], offset: u64) -> Result<usize, c_int>;
    fn write(&self, handle: u64, bytes: &[u8], offset: u64) -> Result<(), c_int>;
    fn truncate(&self, handle: u64, len: u64) -> Result<(), c_int>;
    fn sync(&self, handle: u64) -> Result<(), c_int>;
    fn len(&self, handle: u64) -> Result<u64, c_int>;
    fn lock(&self, handle: u64, level: c_int) -> Result<(), c_int>;
    fn unlock(&self, handle: u64, level: c_int) -> Result<(), c_int>;
    fn reserved(&self, handle: u64) -> bool;
    /// Returns the address of a region of shared memory, which stays for good; nothing when it is not there.
    fn shm_region(&self, handle: u64, index: usize, extend: bool) -> Result<Option<usize>, c_int>;
    fn shm_lock(&self, handle: u64, first: u64, count: u64, flags: c_int) -> Result<(), c_int>;
    fn shm_unmap(&self, handle: u64, delete: bool) -> Result<(), c_int>;
}

/// A file system that SQLite knows by a name. It stays for good, as it may have files open.
pub(crate) fn register(name: &str, file_system: Arc<dyn FileSystem>) {
    let name = Box::leak(CString::new(name).unwrap().into_boxed_c_str());
    let vfs = sqlite3_vfs {
        iVersion: 2,
        szOsFile: c_int::try_from(size_of::<File>()).unwrap(),
        mxPathname: 512,
        pNext: std::ptr::null_mut(),
        zName: name.as_ptr(),
        pAppData: Box::into_raw(Box::new(file_system)).cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: None,
        xGetLastError: None,
        xCurrentTimeInt64: Some(current_time),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    };
    // SAFETY: the structure and all it points to are leaked, so they outlive every use by SQLite.
    let code = unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0) };
    assert_eq!(code, ffi::SQLITE_OK);
}

/// An open file, in memory that SQLite gives us.
#[repr(C)]
struct File {
    base: sqlite3_file,
    file_system: *const Arc<dyn FileSystem>,
    handle: u64,
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

fn code(result: Result<(), c_int>) -> c_int {
    result.err().unwrap_or(ffi::SQLITE_OK)
}

/// The file system of a structure that [`register`] made.
unsafe fn system_of<'a>(vfs: *mut sqlite3_vfs) -> &'a dyn FileSystem {
    // SAFETY: SQLite passes the structure that it was given, whose data is a leaked `Arc`.
    unsafe { &**(*vfs).pAppData.cast::<Arc<dyn FileSystem>>() }
}

/// The file system and the handle of an open file.
unsafe fn file_of<'a>(file: *mut sqlite3_file) -> (&'a dyn FileSystem, u64) {
    // SAFETY: SQLite calls methods only on what `open` filled in.
    let file = unsafe { &*file.cast::<File>() };
    // SAFETY: the pointer is to a leaked `Arc`.
    (unsafe { &**file.file_system }, file.handle)
}

unsafe fn name_of<'a>(name: *const c_char) -> &'a str {
    // SAFETY: SQLite passes strings with a zero at their end, which live as long as the call.
    unsafe { CStr::from_ptr(name) }.to_str().unwrap()
}

fn size(number: c_int) -> usize {
    usize::try_from(number).unwrap()
}

fn offset(number: sqlite3_int64) -> u64 {
    u64::try_from(number).unwrap()
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes room for a `File`.
    unsafe { (*file).pMethods = std::ptr::null() };
    if name.is_null() {
        return ffi::SQLITE_CANTOPEN; // a temporary file: the tests keep those in memory
    }
    // SAFETY: as the two functions demand.
    let (system, name) = unsafe { (system_of(vfs), name_of(name)) };
    match system.open(name, flags & ffi::SQLITE_OPEN_CREATE != 0) {
        Ok(handle) => {
            let opened = File {
                base: sqlite3_file {
                    pMethods: &raw const METHODS,
                },
                // SAFETY: the structure is the one that was registered.
                file_system: unsafe { (*vfs).pAppData }.cast(),
                handle,
            };
            // SAFETY: SQLite passes room for a `File`.
            unsafe { file.cast::<File>().write(opened) };
            if !out_flags.is_null() {
                // SAFETY: not null, so it is a number of SQLite's.
                unsafe { out_flags.write(flags) };
            }
            ffi::SQLITE_OK
        }
        Err(code) => code,
    }
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, _sync: c_int) -> c_int {
    // SAFETY: as the two functions demand.
    let (system, name) = unsafe { (system_of(vfs), name_of(name)) };
    code(system.delete(name))
}

unsafe extern "C" fn access(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    _flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: as the two functions demand.
    let (system, name) = unsafe { (system_of(vfs), name_of(name)) };
    // SAFETY: SQLite passes a number of its own.
    unsafe { out.write(c_int::from(system.exists(name))) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _vfs: *mut sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite passes a string.
    let bytes = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
    assert!(bytes.len() <= size(room));
    // SAFETY: there is room, as was asserted, and SQLite's two buffers are not one.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len()) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(_vfs: *mut sqlite3_vfs, count: c_int, out: *mut c_char) -> c_int {
    // SAFETY: SQLite passes room for so many bytes.
    unsafe { std::ptr::write_bytes(out, 7, size(count)) };
    count
}

unsafe extern "C" fn sleep(_vfs: *mut sqlite3_vfs, microseconds: c_int) -> c_int {
    microseconds
}

unsafe extern "C" fn current_time(_vfs: *mut sqlite3_vfs, out: *mut sqlite3_int64) -> c_int {
    // SAFETY: SQLite passes a number of its own. Julian milliseconds of some day of 2026.
    unsafe { out.write(212_650_000_000_000) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite passes an open file.
    let (system, handle) = unsafe { file_of(file) };
    code(system.close(handle))
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    out: *mut c_void,
    count: c_int,
    at: sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite passes an open file.
    let (system, handle) = unsafe { file_of(file) };
    // SAFETY: SQLite passes room for so many bytes, which nobody else uses meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts_mut(out.cast::<u8>(), size(count)) };
    bytes.fill(0);
    match system.read(handle, bytes, offset(at)) {
        Ok(read) if read == bytes.len() => ffi::SQLITE_OK,
        Ok(_) => ffi::SQLITE_IOERR_SHORT_READ,
        Err(code) => code,
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    count: c_int,
    at: sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite passes an open file.
    let (system, handle) = unsafe { file_of(file) };
    // SAFETY: SQLite passes so many bytes, and does not change them meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), size(count)) };
    code(system.write(handle, bytes, offset(at)))
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, len: sqlite3_int64) -> c_int {
    // SAFETY: SQLite passes an open file.
    let (system, handle) = unsafe { file_of(file) };
    code(system.truncate(handle, offset(len)))
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    let (system, handle) = unsafe { file_of(file) };
    code(system.sync(handle))
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, out: *mut sqlite3_int64) -> c_int {
    // SAFETY: SQLite passes an open file.
    let (system, handle) = unsafe { file_of(file) };
    match system.len(handle) {
        Ok(len) => {
            // SAFETY: SQLite passes a number of its own.
            unsafe { out.write(i64::try_from(len).unwrap()) };
            ffi::SQLITE_OK
        }
        Err(code) => code,
    }
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    let (system, handle) = unsafe { file_of(file) };
    code(system.lock(handle, level))
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    let (system, handle) = unsafe { file_of(file) };
    code(system.unlock(handle, level))
}

unsafe extern "C" fn check_reserved(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    let (system, handle) = unsafe { file_of(file) };
    // SAFETY: SQLite passes a number of its own.
    unsafe { out.write(c_int::from(system.reserved(handle))) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_file: *mut sqlite3_file, _op: c_int, _arg: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn device_characteristics(_file: *mut sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    index: c_int,
    bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    assert_eq!(bytes, 32_768);
    // SAFETY: SQLite passes an open file.
    let (system, handle) = unsafe { file_of(file) };
    let region = system.shm_region(handle, size(index), extend != 0);
    let address = region.as_ref().ok().copied().flatten();
    let pointer = address.map_or(std::ptr::null_mut(), std::ptr::with_exposed_provenance_mut);
    // SAFETY: SQLite passes a pointer of its own.
    unsafe { out.write(pointer) };
    code(region.map(drop))
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, first: c_int, count: c_int, flags: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    let (system, handle) = unsafe { file_of(file) };
    code(system.shm_lock(handle, size(first) as u64, size(count) as u64, flags))
}

unsafe extern "C" fn shm_barrier(_file: *mut sqlite3_file) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    let (system, handle) = unsafe { file_of(file) };
    code(system.shm_unmap(handle, delete != 0))
}

/// Asks the kernel for a lock of an open file, without waiting, and tells whether it was granted.
pub(crate) fn kernel_lock(file: &std::fs::File, kind: c_int, start: u64, len: u64) -> bool {
    let request = libc::flock {
        l_type: i16::try_from(kind).unwrap(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap(),
        l_start: i64::try_from(start).unwrap(),
        l_len: i64::try_from(len).unwrap(),
        l_pid: 0,
    };
    // SAFETY: the file is open, and the structure lives as long as the call.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const request) == 0 }
}
