//! `Syncer` of the module `chainfire_native` (typed in chainfire_native.pyi).

use std::os::fd::BorrowedFd;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

#[pyclass(frozen)]
struct Syncer {
    syncer: super::Syncer,
}

#[pymethods]
impl Syncer {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Syncer { syncer: super::Syncer::new()? })
    }

    fn fileno(&self) -> i32 {
        self.syncer.fd()
    }

    fn start(&self, fd: i32) -> PyResult<()> {
        if fd < 0 {
            return Err(PyValueError::new_err("not a descriptor"));
        }
        // SAFETY: only borrowed for this call; one that is not open is refused by the kernel.
        let file = unsafe { BorrowedFd::borrow_raw(fd) };
        Ok(self.syncer.start(file)?)
    }

    fn take(&self) -> Option<(i32, f64)> {
        let outcome = self.syncer.take()?;
        let errno = match outcome.result {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        Some((errno, outcome.took.as_secs_f64()))
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.syncer.close());
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Syncer>()
}
