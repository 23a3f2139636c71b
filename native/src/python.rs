//! The module `chainfire_native`: the border as Python sees it (typed in chainfire_native.pyi).
//!
//! Everything here runs on Python's thread. Tuples are taken apart into plain Rust before anything
//! else happens; bodies over `COPY_BYTES_MAX` are never copied under the GIL: requests are copied
//! with it released, answers stay Python's own bytes until the socket has taken them.

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyList, PyNone, PyString, PyTuple};

use crate::border::{Action, Border, Event, Message, Method, Methods, Reply, Status, lock};
use crate::cast::Cast;
use crate::door::{Door as Thread, Listen};
use crate::grpc::{FRAME_HEAD_BYTES, Pairs, Value, frame_head};
use crate::settings::{self, Settings};
use crate::tls::{self, Pem};

/// Smaller bodies are copied at once: cheaper than keeping Python's object alive.
const KEEP_BYTES_MIN: usize = 4096;
/// From here on a copy is made with the GIL released.
const COPY_BYTES_MAX: usize = 256 * 1024;

// The second item of a reply, where it is not a gRPC status (0 and up).
const MESSAGE: i32 = -1;
const HEAD: i32 = -2;
const CREDIT: i32 = -3;
const RESET: i32 = -4;
const CAST: i32 = -5;

#[pyclass(frozen)]
struct Door {
    thread: Thread,
}

#[pymethods]
impl Door {
    #[new]
    #[pyo3(signature = (methods, **options))]
    fn new(methods: Vec<(String, bool)>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let methods: Methods = (0i32..)
            .zip(methods)
            .map(|(number, (path, takes_stream))| (path.into_bytes(), Method { number, takes_stream }))
            .collect();
        let border = Arc::new(Border::new(read_settings(options)?, methods)?);
        Ok(Door { thread: Thread::start(border)? })
    }

    /// Serve on a listening socket; its descriptor is the door's from now on.
    fn listen(&self, fd: i32, is_unix: bool, tls: bool) -> PyResult<()> {
        if fd < 0 {
            return Err(PyValueError::new_err("not a descriptor"));
        }
        // SAFETY: the caller has detached it; see the stub.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        self.thread.listen(Listen { fd, is_unix, tls });
        Ok(())
    }

    /// What TLS listeners show from the next connection on.
    #[pyo3(signature = (
        certificate, key, client_ca=None, client_required=true, *,
        client_crl=None, client_names=Vec::new(), version_min=None, version_max=None, ciphers=Vec::new()
    ))]
    #[expect(clippy::too_many_arguments)]
    fn set_tls(
        &self,
        certificate: &[u8],
        key: &[u8],
        client_ca: Option<&[u8]>,
        client_required: bool,
        client_crl: Option<&[u8]>,
        client_names: Vec<String>,
        version_min: Option<String>,
        version_max: Option<String>,
        ciphers: Vec<String>,
    ) -> PyResult<()> {
        let pem =
            Pem { certificate, key, client_ca, client_required, client_crl, client_names: &client_names };
        let limits = tls::Limits { version_min, version_max, ciphers };
        let config = tls::server_config(&pem, &limits).map_err(PyValueError::new_err)?;
        *lock(&self.thread.tls) = Some(config);
        Ok(())
    }

    fn fileno(&self) -> i32 {
        self.thread.border.fd()
    }

    /// (events, armed); see the stub.
    fn drain<'py>(&self, py: Python<'py>, max: usize) -> PyResult<(Bound<'py, PyList>, bool)> {
        let (events, armed) = self.thread.border.drain(max);
        let list = PyList::empty(py);
        for event in events {
            list.append(event_to_python(py, event)?)?;
        }
        Ok((list, armed))
    }

    fn send(&self, replies: &Bound<'_, PyList>) -> PyResult<bool> {
        let mut found = Vec::with_capacity(replies.len());
        for reply in replies.iter() {
            found.push(reply_from_python(&self.thread.border, reply.cast::<PyTuple>()?)?);
        }
        Ok(self.thread.border.reply(found))
    }

    fn linger(&self, py: Python<'_>) -> bool {
        py.detach(|| self.thread.border.linger())
    }

    fn stop(&self) {
        self.thread.stop();
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.thread.close());
    }

    fn has_room(&self, id: u64) -> bool {
        self.thread.border.has_room(id)
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let border = &self.thread.border;
        let found = PyDict::new(py);
        found.set_item("connections", border.open_sockets())?;
        found.set_item("unsent_bytes", border.unsent_bytes.load(Ordering::Relaxed))?;
        found.set_item("incomplete_bytes", border.incomplete_bytes.load(Ordering::Relaxed))?;
        for (name, counter) in [
            ("accepted", &border.counters.accepted),
            ("refused", &border.counters.refused),
            ("rude", &border.counters.rude),
            ("wakes", &border.counters.wakes),
            ("direct", &border.counters.direct),
            ("near", &border.counters.near),
            ("lingers", &border.counters.lingers),
        ] {
            found.set_item(name, counter.load(Ordering::Relaxed))?;
        }
        Ok(found)
    }
}

/// (certificate, key) as PEM, for these names, valid from `now` on.
#[pyfunction]
fn self_signed(names: Vec<String>, common_name: &str, now: i64, days: u32) -> PyResult<(String, String)> {
    tls::self_signed(names, common_name, now, days).map_err(PyValueError::new_err)
}

/// See the stub.
#[pyfunction]
fn start_writing(py: Python<'_>, fd: i32) {
    py.detach(|| crate::disk::start_writing(fd));
}

/// A door that nobody closed must not outlive its module.
impl Drop for Door {
    fn drop(&mut self) {
        self.thread.close();
    }
}

fn read_settings(options: Option<&Bound<'_, PyDict>>) -> PyResult<Settings> {
    let mut settings = Settings::default();
    let Some(options) = options else { return Ok(settings) };
    for (name, value) in options.iter() {
        let name: String = name.extract()?;
        let seconds = || -> PyResult<Duration> {
            Duration::try_from_secs_f64(value.extract()?)
                .map_err(|error| PyValueError::new_err(format!("{name}: {error}")))
        };
        match &*name {
            "connections_max" => settings.connections_max = value.extract()?,
            "streams_max" => settings.streams_max = value.extract()?,
            "message_bytes_max" => settings.message_bytes_max = value.extract()?,
            "header_list_bytes_max" => settings.header_list_bytes_max = value.extract()?,
            "resets_per_second_max" => settings.resets_per_second_max = value.extract()?,
            "direct_answers_max" => settings.direct_answers_max = value.extract()?,
            "http_lines" => settings.http_lines = value.extract()?,
            "handshake_seconds" => settings.handshake = seconds()?,
            "write_seconds" => settings.write = seconds()?,
            "ping_interval_min_seconds" => settings.ping_interval_min = seconds()?,
            "keepalive_interval_seconds" => settings.keepalive_interval = seconds()?,
            "keepalive_timeout_seconds" => settings.keepalive_timeout = seconds()?,
            _ => return Err(PyValueError::new_err(format!("no such setting: {name}"))),
        }
    }
    Ok(settings)
}

// ── events ──────────────────────────────────────────────────────────────────

fn event_to_python<'py>(py: Python<'py>, event: Event) -> PyResult<Bound<'py, PyTuple>> {
    let body = body_to_python(py, event.body)?;
    let metadata = match event.metadata {
        None => PyNone::get(py).to_owned().into_any(),
        Some(pairs) => pairs_to_python(py, &pairs)?.into_any(),
    };
    let amount = if event.amount == 0.0 {
        PyNone::get(py).to_owned().into_any()
    } else {
        PyFloat::new(py, event.amount).into_any()
    };
    let id = event.id.into_pyobject(py)?.into_any();
    let what = event.what.into_pyobject(py)?.into_any();
    PyTuple::new(py, [id, what, body, metadata, amount])
}

fn body_to_python<'py>(py: Python<'py>, body: Bytes) -> PyResult<Bound<'py, PyAny>> {
    if body.len() <= COPY_BYTES_MAX {
        return Ok(PyBytes::new(py, &body).into_any());
    }
    // SAFETY: a bytes object without contents, which nobody else has seen yet, is filled before it
    // is handed out; its buffer has the length asked for. The GIL isn't needed to write into it.
    unsafe {
        let length = pyo3::ffi::Py_ssize_t::try_from(body.len())?;
        let raw = pyo3::ffi::PyBytes_FromStringAndSize(std::ptr::null(), length);
        let object = Bound::from_owned_ptr_or_err(py, raw)?;
        let target = pyo3::ffi::PyBytes_AsString(raw) as usize;
        py.detach(|| std::ptr::copy_nonoverlapping(body.as_ptr(), target as *mut u8, body.len()));
        Ok(object)
    }
}

fn pairs_to_python<'py>(py: Python<'py>, pairs: &Pairs) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (name, value) in pairs {
        let value = match value {
            Value::Text(text) => PyString::new(py, text).into_any(),
            Value::Binary(bytes) => PyBytes::new(py, bytes).into_any(),
        };
        list.append((name.as_str(), value))?;
    }
    Ok(list)
}

// ── replies ─────────────────────────────────────────────────────────────────

/// (id, 0, bytes): the one answer. (id, code, text or None[, trailers]): the end.
/// (id, MESSAGE, bytes), (id, HEAD, (status, headers)), (id, CREDIT, count), (id, RESET, None),
/// (0, CAST, (targets, body)).
fn reply_from_python(border: &Arc<Border>, reply: &Bound<'_, PyTuple>) -> PyResult<Reply> {
    let id: u64 = reply.get_borrowed_item(0)?.extract()?;
    let kind: i32 = reply.get_borrowed_item(1)?.extract()?;
    let content = reply.get_borrowed_item(2)?;
    let action = match kind {
        0 if content.is_instance_of::<PyBytes>() => Action::Answer(message(border, id, &content)?),
        MESSAGE => Action::Message(message(border, id, &content)?),
        CREDIT => Action::Credit(content.cast::<PyInt>()?.extract()?),
        HEAD => {
            let (status, headers): (u16, Vec<(String, Bound<'_, PyAny>)>) = content.extract()?;
            Action::Head(Box::new((status, pairs_from_python(headers)?)))
        }
        RESET => Action::Reset,
        CAST => {
            let (targets, body): (Bound<'_, PyBytes>, Bound<'_, PyBytes>) = content.extract()?;
            let [targets, body] = [targets, body].map(|bytes| Bytes::copy_from_slice(bytes.as_bytes()));
            Action::Cast(Box::new(Cast { targets, body }))
        }
        code @ 0.. => {
            let message: Option<String> = content.extract()?;
            let trailers = match reply.get_item(3) {
                Ok(trailers) => pairs_from_python(trailers.extract()?)?,
                Err(_) => Pairs::new(),
            };
            let code = u16::try_from(code).map_err(|_| PyValueError::new_err("no such status"))?;
            Action::Status(Box::new(Status { code, message: message.unwrap_or_default(), trailers }))
        }
        _ => return Err(PyValueError::new_err(format!("no such reply: {kind}"))),
    };
    Ok(Reply { id, action })
}

fn pairs_from_python(pairs: Vec<(String, Bound<'_, PyAny>)>) -> PyResult<Pairs> {
    pairs
        .into_iter()
        .map(|(name, value)| {
            let value = match value.cast::<PyBytes>() {
                Ok(bytes) => Value::Binary(bytes.as_bytes().to_vec()),
                Err(_) => Value::Text(value.extract()?),
            };
            Ok((name, value))
        })
        .collect()
}

fn message(border: &Arc<Border>, id: u64, content: &Bound<'_, PyAny>) -> PyResult<Message> {
    let content = content.cast::<PyBytes>()?;
    let bytes = content.as_bytes();
    if u32::try_from(bytes.len()).is_err() {
        return Err(PyValueError::new_err("a gRPC message is smaller than 4 GiB"));
    }
    if bytes.len() < KEEP_BYTES_MIN {
        let mut framed = Vec::with_capacity(bytes.len() + FRAME_HEAD_BYTES);
        framed.extend_from_slice(&frame_head(bytes.len(), false));
        framed.extend_from_slice(bytes);
        return Ok(Message::Framed(framed.into()));
    }
    let Some(own) = border.unsent_bytes_of(id) else {
        return Ok(Message::Bare(Bytes::new())); // to nobody
    };
    own.fetch_add(bytes.len(), Ordering::Relaxed);
    border.unsent_bytes.fetch_add(bytes.len(), Ordering::Relaxed);
    let held = Held {
        own,
        start: bytes.as_ptr() as usize,
        length: bytes.len(),
        _object: content.clone().unbind(),
        border: border.clone(),
    };
    Ok(Message::Bare(Bytes::from_owner(held)))
}

/// Python's bytes, alive until the last slice of them has left. Dropped without the GIL: PyO3 keeps
/// the reference until Python calls in again.
struct Held {
    start: usize, // of the object's buffer: immutable, and it never moves
    length: usize,
    _object: Py<PyBytes>,
    border: Arc<Border>,
    own: Arc<AtomicUsize>, // the connection's count
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `_object` keeps the buffer alive; bytes objects do not change.
        unsafe { std::slice::from_raw_parts(self.start as *const u8, self.length) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.border.unsent_bytes.fetch_sub(self.length, Ordering::Relaxed);
        self.own.fetch_sub(self.length, Ordering::Relaxed);
    }
}

#[pymodule]
fn chainfire_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("BORDER_VERSION", crate::BORDER_VERSION)?;
    module.add("STREAM_CREDIT_BYTES", settings::STREAM_CREDIT_BYTES)?;
    module.add("CREDIT_LUMP_BYTES", settings::CREDIT_LUMP_BYTES)?;
    module.add("MESSAGE_OVERHEAD_BYTES", settings::MESSAGE_OVERHEAD_BYTES)?;
    module.add("MESSAGE", MESSAGE)?;
    module.add("HEAD", HEAD)?;
    module.add("CREDIT", CREDIT)?;
    module.add("RESET", RESET)?;
    module.add("CAST", CAST)?;
    use crate::border::what;
    for (name, value) in [
        ("UNKNOWN_METHOD", what::UNKNOWN_METHOD),
        ("HTTP_REQUEST", what::HTTP),
        ("REQUEST_MESSAGE", what::MESSAGE),
        ("HALF_CLOSE", what::HALF_CLOSE),
        ("CANCEL", what::CANCEL),
        ("WRITABLE", what::WRITABLE),
        ("OPENED", what::OPENED),
        ("CLOSED", what::CLOSED),
        ("DRAINED", what::DRAINED),
        ("FAILED", what::FAILED),
        ("PRESSED", what::PRESSED),
        ("RELIEVED", what::RELIEVED),
    ] {
        module.add(name, value)?;
    }
    crate::load::python::register(module)?;
    module.add_function(wrap_pyfunction!(self_signed, module)?)?;
    module.add_function(wrap_pyfunction!(start_writing, module)?)?;
    crate::plain::python::register(module)?;
    crate::sync::python::register(module)?;
    module.add_class::<Door>()
}
