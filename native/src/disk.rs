//! Bytes on their way to a disk before somebody waits for them.

use std::os::fd::RawFd;

/// Let the kernel begin to write what is dirty of a file. Waits for nothing unless the disk's queue
/// is full. No failure is told here, nor taken from who syncs: that hears of it on its own descriptor.
pub fn start_writing(fd: RawFd) {
    // SAFETY: no memory is involved; what the descriptor may be, the kernel checks.
    unsafe { libc::sync_file_range(fd, 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_was_started_is_whole_and_no_descriptor_is_too_odd() {
        let path = std::env::temp_dir().join(format!("chainfire-disk-{}", std::process::id()));
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(b"written").unwrap();
        start_writing(file.as_raw_fd());
        start_writing(-1);
        file.sync_data().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"written");
        std::fs::remove_file(path).unwrap();
    }
}
