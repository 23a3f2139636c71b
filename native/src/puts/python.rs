//! `parse_put` and `put_rows` of the module `chainfire_native` (typed in chainfire_native.pyi).

use std::cell::RefCell;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::{Link, PlainPut, Rows, Span};

thread_local! {
    static ROWS: RefCell<Rows> = RefCell::default(); // its buffer is used again and again
}
const BUFFER_BYTES_KEPT: usize = 1 << 20;

#[pyfunction]
fn parse_put<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let Some(put) = PlainPut::parse(data) else { return Ok(None) };
    let key = PyBytes::new(py, put.key);
    let found =
        (put.member_id, put.start_number, put.sequence, put.lowest_unsettled, put.leader_clock_ms, key);
    Ok(Some(found.into_pyobject(py)?))
}

#[pyfunction]
fn put_rows<'py>(
    py: Python<'py>,
    data: &[u8],
    before: Option<&[u8]>,
    index: u64,
    term: u64,
    revision: u64,
    hash: u64,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let Some(put) = PlainPut::parse(data) else { return Ok(None) };
    ROWS.with_borrow_mut(|rows| {
        if !put.encode(before, &Link { hash, index, term, revision }, rows) {
            return Ok(None);
        }
        let part = |span: &Span| PyBytes::new(py, &rows.buffer[span.clone()]);
        let row = part(&rows.key_value.1);
        let history = rows.key_history.as_ref();
        let found = (
            row,
            part(&rows.revisions.0),
            part(&rows.revisions.1),
            history.map(|(key, _)| part(key)),
            history.map(|(_, value)| part(value)),
            rows.hash,
            rows.buffer.len(),
        );
        let found = found.into_pyobject(py)?;
        if rows.buffer.capacity() > BUFFER_BYTES_KEPT {
            rows.buffer = Vec::new();
        }
        Ok(Some(found))
    })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(parse_put, module)?)?;
    module.add_function(wrap_pyfunction!(put_rows, module)?)
}
