//! `wsgi.file_wrapper`: a file as a response, sent by the kernel where it is a real one.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::engine::output::FileSpan;
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
        let block = self.filelike.bind(py).call_method1("read", (self.block_size,))?;
        Ok(if block.len()? == 0 { None } else { Some(block) })
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let filelike = self.filelike.bind(py);
        if filelike.hasattr("close")? {
            filelike.call_method0("close")?;
        }
        Ok(())
    }
}

impl FileWrapper {
    /// The rest of the file from its present position on, if it is a regular file that the kernel can send. The
    /// descriptor is our own, so that the application may close its file at once.
    pub fn span(&self, py: Python<'_>) -> Option<FileSpan> {
        let filelike = self.filelike.bind(py);
        let number: i32 = filelike.call_method0("fileno").ok()?.extract().ok()?;
        // A text file's position is an opaque number; what is not a number of bytes is not ours to send.
        if filelike.hasattr("encoding").ok()? {
            return None;
        }
        let offset: u64 = filelike.call_method0("tell").ok()?.extract().ok()?;
        let (file, size) = descriptor::duplicate_file(number).ok()??;
        let length = size.saturating_sub(offset);
        Some(FileSpan { file, offset, length })
    }
}
