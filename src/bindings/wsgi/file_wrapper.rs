//! `wsgi.file_wrapper`: a file as a response, sent by the kernel where it is a real one.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyType};

use crate::bindings::ffi;
use crate::engine::transport::output::FileSpan;
use crate::net::descriptor;

/// PEP 3333's optional platform-specific file handling.
#[pyclass(frozen, module = "wsgi._core")]
pub struct FileWrapper {
    #[pyo3(get)]
    filelike: Py<PyAny>,
    #[pyo3(get)]
    block_size: usize,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, block_size = 8192))]
    fn new(filelike: Py<PyAny>, block_size: usize) -> PyResult<Self> {
        if block_size == 0 {
            return Err(PyValueError::new_err("block_size must be at least 1"));
        }
        Ok(Self { filelike, block_size })
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.read(py, u64::MAX)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.filelike.bind(py).getattr_opt("close")? {
            Some(close) => ffi::call(&close, []).map(drop),
            None => Ok(()),
        }
    }
}

static FILE_IO: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BUFFERED_READER: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BUFFERED_RANDOM: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static TEMPORARY_FILE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

impl FileWrapper {
    /// The file's next block, for which at most `most` bytes are read; none at its end.
    pub fn read<'py>(&self, py: Python<'py>, most: u64) -> PyResult<Option<Bound<'py, PyAny>>> {
        let size = self.block_size.min(usize::try_from(most).unwrap_or(usize::MAX)).into_pyobject(py)?.into_any();
        let block = ffi::call(&self.filelike.bind(py).getattr("read")?, [&size])?;
        Ok(if block.len()? == 0 { None } else { Some(block) })
    }

    /// The rest of the file from its present position on, if it is a regular file that the kernel can send. The
    /// descriptor is our own, so that the application may close its file at once.
    pub fn span(&self, py: Python<'_>) -> Option<FileSpan> {
        // After any error the file is read like any other object.
        self.find_span(py).ok().flatten()
    }

    fn find_span(&self, py: Python<'_>) -> PyResult<Option<FileSpan>> {
        let mut file = self.filelike.bind(py).clone();
        // Its methods only pass on to the file inside, which they keep open.
        if file.get_type().is(TEMPORARY_FILE.import(py, "tempfile", "_TemporaryFileWrapper")?) {
            file = file.getattr("file")?;
        }
        // Many objects have a descriptor (gzip's, say) whose bytes are not the ones that reading gives. Where `read` is the
        // built-in method of one of the io module's own classes, they are.
        let Ok(read) = file.getattr("read")?.cast_into::<PyCFunction>() else { return Ok(None) };
        let file = read.getattr("__self__")?;
        let buffered = file.is_instance(BUFFERED_READER.import(py, "io", "BufferedReader")?)?
            || file.is_instance(BUFFERED_RANDOM.import(py, "io", "BufferedRandom")?)?;
        let file_io = FILE_IO.import(py, "io", "FileIO")?;
        let raw = if buffered { file.getattr("raw")? } else { file.clone() };
        let plain = if buffered { raw.get_type().is(file_io) } else { raw.is_instance(file_io)? };
        if !plain || !raw.call_method0("readable")?.is_truthy()? {
            return Ok(None);
        }
        if buffered && file.call_method0("writable")?.is_truthy()? {
            file.call_method0("flush")?;
        }
        let offset: u64 = file.call_method0("tell")?.extract()?;
        let Some((file, size)) = descriptor::duplicate_file(raw.call_method0("fileno")?.extract()?)? else {
            return Ok(None);
        };
        Ok((size > offset).then(|| FileSpan { file, offset, length: size - offset }))
    }
}
