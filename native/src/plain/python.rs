//! `parse_plain`, `stage_plain`, `stage_puts` and `is_plain_txn` of the module `chainfire_native` (typed in
//! chainfire_native.pyi).

use std::cell::RefCell;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use super::effect::{Effect, Family, Link, Row, Span, Told, kv_of};
use super::request::Operation;
use super::{Body, KEYSPACE, Plain};

thread_local! {
    static EFFECT: RefCell<Effect> = RefCell::default();
}
const BUFFER_BYTES_KEPT: usize = 1 << 20;
const PUT: u8 = 16; // bodies, by their field numbers
const DELETE: u8 = 17;
const TXN: u8 = 18;

#[pyfunction]
fn is_plain_txn(request: &[u8], operations_max: usize) -> bool {
    super::is_plain_txn(request, operations_max)
}

#[pyfunction]
fn parse_plain<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let Some(plain) = Plain::parse(data) else { return Ok(None) };
    let kind = match &plain.body {
        Body::One(Operation::Put { .. }) => PUT,
        Body::One(_) => DELETE,
        Body::Txn(_) => TXN,
    };
    let row_key = |key: &&[u8]| {
        PyBytes::new_with(py, KEYSPACE.len() + key.len(), |out| {
            out[..KEYSPACE.len()].copy_from_slice(&KEYSPACE);
            out[KEYSPACE.len()..].copy_from_slice(key);
            Ok(())
        })
    };
    let keys = plain.keys().iter().map(row_key).collect::<PyResult<Vec<_>>>()?;
    let found = (
        plain.member_id,
        plain.start_number,
        plain.sequence,
        plain.lowest_unsettled,
        plain.leader_clock_ms,
        kind,
        PyTuple::new(py, keys)?,
    );
    Ok(Some(found.into_pyobject(py)?))
}

#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "one call per command")]
fn stage_plain<'py>(
    py: Python<'py>,
    data: &[u8],
    row_keys: &Bound<'py, PyTuple>,
    befores: Vec<Option<Bound<'py, PyBytes>>>,
    index: u64,
    term: u64,
    revision: u64,
    hash: u64,
    families: Families<'py>,
    changes: Option<&Bound<'py, PyList>>,
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let Some(plain) = Plain::parse(data) else { return Ok(None) };
    let rows: Vec<_> = befores.iter().map(|row| row.as_ref().map(|row| row.as_bytes())).collect();
    EFFECT.with_borrow_mut(|effect| {
        if !plain.apply(&rows, &Link { hash, index, term, revision }, effect) {
            return Ok(None);
        }
        let staged = Staged { py, effect, row_keys, befores: &befores };
        let found = staged.tell(&families, changes)?;
        if effect.buffer.capacity() > BUFFER_BYTES_KEPT {
            *effect = Effect::default();
        }
        Ok(Some(found))
    })
}

/// As `stage_plain` of each of these puts in turn, up to the first that is not plain.
///
/// `befores` are the rows as they were before the first: newer ones are found in the families.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "one call per run of commands")]
fn stage_puts<'py>(
    py: Python<'py>,
    commands: Vec<Bound<'py, PyBytes>>,
    row_keys: Vec<Bound<'py, PyBytes>>,
    befores: Vec<Option<Bound<'py, PyBytes>>>,
    first_index: u64,
    term: u64,
    revision: u64,
    hash: u64,
    families: Families<'py>,
    changes: Option<&Bound<'py, PyList>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let mut link = Link { hash, index: first_index, term, revision };
    let (mut live_bytes, mut history_bytes, mut digested) = (0, 0, 0);
    let (written, hashes) = (PyList::empty(py), PyList::empty(py));
    for ((command, row_key), before) in commands.iter().zip(&row_keys).zip(befores) {
        let before = match families.0.get_item(row_key)? {
            Some(staged) => staged.extract()?,
            None => before,
        };
        let Some(plain) = Plain::parse(command.as_bytes()) else { break };
        let row_keys = PyTuple::new(py, [row_key])?;
        let staged = EFFECT.with_borrow_mut(|effect| -> PyResult<bool> {
            if !plain.apply(&[before.as_ref().map(|row| row.as_bytes())], &link, effect) {
                return Ok(false);
            }
            let of_one = changes.map(|_| PyList::empty(py));
            let staged = Staged { py, effect, row_keys: &row_keys, befores: &[before] };
            let bytes = staged.write(&families, of_one.as_ref(), &written)?;
            live_bytes += bytes.0;
            history_bytes += bytes.1;
            digested += effect.buffer.len();
            if let (Some(changes), Some(of_one)) = (changes, of_one) {
                changes.append(of_one)?;
            }
            hashes.append(effect.hash)?;
            link.hash = effect.hash;
            link.revision = effect.revision;
            if effect.buffer.capacity() > BUFFER_BYTES_KEPT {
                *effect = Effect::default();
            }
            Ok(true)
        })?;
        if !staged {
            break;
        }
        link.index += 1;
    }
    (link.revision, hashes, digested, live_bytes, history_bytes, written).into_pyobject(py)
}

/// An effect on its way into Python's objects.
struct Staged<'a, 'py> {
    py: Python<'py>,
    effect: &'a Effect,
    row_keys: &'a Bound<'py, PyTuple>,
    befores: &'a [Option<Bound<'py, PyBytes>>],
}

type Families<'py> = (Bound<'py, PyDict>, Bound<'py, PyDict>, Bound<'py, PyDict>);

impl<'py> Staged<'_, 'py> {
    fn bytes(&self, span: &Span) -> Bound<'py, PyBytes> {
        PyBytes::new(self.py, &self.effect.buffer[span.clone()])
    }

    fn tell(
        &self,
        families: &Families<'py>,
        changes: Option<&Bound<'py, PyList>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let (py, effect) = (self.py, self.effect);
        let written = PyList::empty(py);
        let (live_bytes, history_bytes) = self.write(families, changes, &written)?;
        let found = (
            effect.revision,
            effect.hash,
            effect.buffer.len(),
            live_bytes,
            history_bytes,
            written,
            effect.succeeded,
            self.outcomes()?,
        );
        found.into_pyobject(py)
    }

    /// Its rows into the families; what that changes in live and in history bytes.
    fn write(
        &self,
        (key_value, key_history, revisions): &Families<'py>,
        changes: Option<&Bound<'py, PyList>>,
        written: &Bound<'py, PyList>,
    ) -> PyResult<(i64, i64)> {
        let (py, effect) = (self.py, self.effect);
        let (mut live_bytes, mut history_bytes) = (0i64, 0i64);
        let mut keys_written = effect.written.iter();
        for change in &effect.changes {
            let size = (change.key.len() + change.value.as_ref().map_or(0, Span::len)) as i64;
            let value = change.value.as_ref().map(|value| self.bytes(value));
            let (name, rows, key) = match change.family {
                Family::KeyValue => {
                    let one = keys_written.next().expect("a row of key_value for each key written");
                    let key = self.row_keys.get_item(one.key)?;
                    let before = self.befores[one.key].as_ref().map_or(0, |row| row.as_bytes().len());
                    let came = i64::from(value.is_some());
                    let went = i64::from(one.existed);
                    live_bytes += size * came - (change.key.len() + before) as i64 * went;
                    written.append((&key, &value, came - went))?;
                    (intern!(py, "key_value"), key_value, key)
                }
                Family::KeyHistory => {
                    history_bytes += size;
                    (intern!(py, "key_history"), key_history, self.bytes(&change.key).into_any())
                }
                Family::Revisions => {
                    history_bytes += size;
                    (intern!(py, "revisions"), revisions, self.bytes(&change.key).into_any())
                }
            };
            rows.set_item(&key, &value)?;
            if let Some(changes) = changes {
                changes.append((name, key, value))?;
            }
        }
        Ok((live_bytes, history_bytes))
    }

    fn outcomes(&self) -> PyResult<Bound<'py, PyList>> {
        let (py, effect) = (self.py, self.effect);
        let outcomes = PyList::empty(py);
        for outcome in &effect.outcomes {
            let changed = outcome.changed;
            match &outcome.told {
                Told::Put => outcomes.append((PUT, changed, py.None()))?,
                Told::Deleted(deleted) => outcomes.append((DELETE, changed, *deleted))?,
                Told::Found { key, row } => outcomes.append((0, changed, self.row(*key, row.as_ref())))?,
            }
        }
        Ok(outcomes)
    }

    /// The KeyValue of the key at that time.
    fn row(&self, key: usize, row: Option<&Row>) -> Option<Bound<'py, PyBytes>> {
        match row? {
            Row::New(span) => Some(self.bytes(&kv_of(span))),
            Row::Before => {
                let row = self.befores[key].as_ref()?.as_bytes();
                Some(PyBytes::new(self.py, &row[super::version::ROW_HEAD_BYTES..]))
            }
        }
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(is_plain_txn, module)?)?;
    module.add_function(wrap_pyfunction!(parse_plain, module)?)?;
    module.add_function(wrap_pyfunction!(stage_plain, module)?)?;
    module.add_function(wrap_pyfunction!(stage_puts, module)?)
}
