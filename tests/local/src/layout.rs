//! Reading an OCI image layout, for those who have no skopeo.

use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use shared::names::Digest;
use tempfile::TempDir;

use crate::error::Error;
use crate::registry::{Descriptor, Parts};

/// An image in a directory of blobs.
#[derive(Debug)]
pub(crate) struct Layout {
    directory: PathBuf,
    root: Descriptor,
    /// The directory, if it was unpacked for this.
    _unpacked: Option<TempDir>,
}

impl Layout {
    pub(crate) fn open(directory: &Path, tag: Option<&str>) -> Result<Self, Error> {
        Ok(Self { directory: directory.to_owned(), root: choose(directory, tag)?, _unpacked: None })
    }

    /// Opens a layout in a tar archive, compressed or not.
    pub(crate) fn open_archive(archive: &Path, tag: Option<&str>, home: &Path) -> Result<Self, Error> {
        let doing = || format!("unpack {}", archive.display());
        let unpacked = tempfile::Builder::new().prefix("archive-").tempdir_in(home).map_err(Error::io(doing()))?;
        tar::Archive::new(open_tar(archive)?).unpack(unpacked.path()).map_err(Error::io(doing()))?;
        let directory = unpacked.path().to_owned();
        Ok(Self { root: choose(&directory, tag)?, directory, _unpacked: Some(unpacked) })
    }

    pub(crate) fn root(&self) -> &Descriptor {
        &self.root
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs").join(digest.as_str().replace(':', "/"))
    }

    pub(crate) fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let path = self.blob(&descriptor.digest);
        let manifest = fs::read(&path).map_err(Error::io(format!("read {}", path.display())))?;
        if Digest::of(&manifest) != descriptor.digest || manifest.len() as u64 != descriptor.size {
            return Err(self.wrong(format!("{} has other bytes than its digest and size say", descriptor.digest)));
        }
        Ok(manifest)
    }

    pub(crate) fn wrong(&self, problem: impl Into<String>) -> Error {
        Error::image(&self.directory, problem)
    }
}

fn choose(directory: &Path, tag: Option<&str>) -> Result<Descriptor, Error> {
    let index = directory.join("index.json");
    let index = fs::read(&index).map_err(Error::io(format!("read {}", index.display())))?;
    let images =
        Parts::of(&index).map_err(|problem| Error::image(directory, format!("index.json: {problem}")))?.children;
    let names: Vec<String> = images.iter().filter_map(|image| image.name.clone()).collect();
    let mut chosen = images.into_iter().filter(|image| tag.is_none_or(|tag| image.name.as_deref() == Some(tag)));
    match (chosen.next(), chosen.next()) {
        (Some(root), None) => Ok(root),
        _ => Err(Error::image(directory, format!("name one of its images, as <path>:<name>: {}", names.join(", ")))),
    }
}

/// A tar archive, compressed by gzip or not.
pub(crate) fn open_tar(path: &Path) -> Result<Box<dyn std::io::Read>, Error> {
    let doing = || format!("read {}", path.display());
    let open = || File::open(path).map(BufReader::new).map_err(Error::io(doing()));
    let mut magic = [0; 2];
    let compressed = open()?.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    Ok(if compressed { Box::new(GzDecoder::new(open()?)) } else { Box::new(open()?) })
}
