//! Which pages were ever touched? Asked of the memfd, not of the page tables, so that swapped pages count too and
//! holes cost nothing.

use super::{Backing, Storage, StorageError};
use crate::page::{PAGE_SIZE, PageCount, PageNumber};
use crate::runs::{Run, Runs};
use crate::tracker::present_runs;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

impl Storage {
    /// Every page that has memory (or swap) behind it; all others read as zero and were never written.
    ///
    /// Found with `SEEK_DATA`/`SEEK_HOLE`: two system calls per run, none per page. hugetlbfs does not answer these,
    /// so there the page tables of this process are asked (`PAGEMAP_SCAN`), and where that is missing, all of
    /// storage counts as touched.
    ///
    /// # Errors
    /// [`StorageError::Inspect`] if the kernel refuses.
    pub fn touched(&self) -> Result<Runs, StorageError> {
        if self.backing() == Backing::HugeTlb {
            return Ok(present_runs(self).unwrap_or_else(|_| Runs::from_run(self.whole())));
        }
        let mut touched = Runs::new();
        let mut offset_bytes = 0;
        while let Some(data) = self.seek(SeekFrom::Data(offset_bytes))? {
            let hole = self.seek(SeekFrom::Hole(data))?.unwrap_or(self.len_bytes());
            touched.push(Run::between(PageNumber::containing(data), PageNumber(PageCount::holding(hole).0)));
            offset_bytes = hole.max(data + PAGE_SIZE as u64); // always forward
        }
        Ok(touched)
    }

    /// Where the next data or hole begins; `None` past the last of them.
    fn seek(&self, target: SeekFrom) -> Result<Option<u64>, StorageError> {
        // The file offset is shared by all threads, but both kinds of seek start from an absolute place.
        match rustix::fs::seek(self.fd(), target) {
            Ok(offset_bytes) => Ok(Some(offset_bytes)),
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(StorageError::Inspect { step: "lseek", source: errno.into() }),
        }
    }
}
