//! An image on this machine, and the client that pushes it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use shared::names::Digest;

use crate::error::Error;
use crate::layout::{Layout, open_tar};
use crate::process::{guarded, run};
use crate::registry::Registry;

/// The transports of skopeo that may be written out.
const TRANSPORTS: [&str; 8] =
    ["oci:", "oci-archive:", "docker-archive:", "dir:", "docker:", "docker-daemon:", "containers-storage:", "sif:"];

/// An image to push.
#[derive(Debug, Clone)]
pub struct Image {
    given: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Layout {
        directory: PathBuf,
        tag: Option<String>,
    },
    OciArchive {
        file: PathBuf,
        tag: Option<String>,
    },
    /// Something that only skopeo reads.
    Other {
        reference: String,
    },
}

/// What was pushed.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// The image's digest in the source registry.
    pub digest: Digest,
    /// The client that pushed it.
    pub client: Client,
}

/// What pushes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Client {
    /// skopeo, which is installed.
    Skopeo {
        /// Its version.
        version: String,
    },
    /// The library oci-client.
    OciClient,
}

impl fmt::Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skopeo { version } => write!(formatter, "skopeo {version}"),
            Self::OciClient => formatter.write_str("oci-client"),
        }
    }
}

impl Client {
    /// skopeo if it is installed, the library otherwise.
    #[must_use]
    pub fn installed() -> Self {
        let output = Command::new("skopeo").arg("--version").output().ok().filter(|output| output.status.success());
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        match text.as_deref().and_then(|text| text.split_whitespace().nth(2)) {
            Some(version) => Self::Skopeo { version: version.to_owned() },
            None => Self::OciClient,
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.given)
    }
}

impl Image {
    pub(crate) fn layout(directory: PathBuf) -> Self {
        Self { given: directory.display().to_string(), kind: Kind::Layout { directory, tag: None } }
    }

    /// An image as a person names it: an OCI layout's directory or an archive, each with `:<name>` where it holds several,
    /// or anything that skopeo reads, with its transport.
    ///
    /// # Errors
    /// If there is no such image.
    pub fn find(given: &str) -> Result<Self, Error> {
        let image = |kind| Ok(Self { given: given.to_owned(), kind });
        if TRANSPORTS.iter().any(|transport| given.starts_with(transport)) && !Path::new(given).exists() {
            return image(Kind::Other { reference: given.to_owned() });
        }
        let (path, tag) = match given.rsplit_once(':') {
            Some((path, tag)) if !Path::new(given).exists() && Path::new(path).exists() => (path, Some(tag)),
            _ => (given, None),
        };
        let tag = tag.map(ToOwned::to_owned);
        let path = PathBuf::from(path);
        if path.is_dir() {
            if path.join("oci-layout").exists() {
                return image(Kind::Layout { directory: path, tag });
            }
            if path.join("manifest.json").exists() {
                return image(Kind::Other { reference: format!("dir:{}", path.display()) });
            }
            return Err(Error::image(&path, "a directory, but not an OCI layout: it has no oci-layout file"));
        }
        if !path.exists() {
            return Err(Error::image(&path, "no such file or directory"));
        }
        let names = archive_names(&path)?;
        if names.iter().any(|name| name == "oci-layout") {
            return image(Kind::OciArchive { file: path, tag });
        }
        if names.iter().any(|name| name == "manifest.json") {
            let tag = tag.map_or(String::new(), |tag| format!(":{tag}"));
            return image(Kind::Other { reference: format!("docker-archive:{}{tag}", path.display()) });
        }
        Err(Error::image(&path, "neither an OCI archive (oci-layout) nor one of docker (manifest.json)"))
    }

    pub(crate) async fn push(
        &self,
        client: &Client,
        registry: &Registry,
        repository: &str,
        tag: &str,
        home: &Path,
        log: &Path,
    ) -> Result<Digest, Error> {
        match client {
            Client::Skopeo { .. } => self.push_by_skopeo(registry, repository, tag, log).await?,
            Client::OciClient => registry.push(&self.open(home)?, repository, tag).await?,
        }
        registry.digest(repository, tag).await
    }

    async fn push_by_skopeo(&self, registry: &Registry, repository: &str, tag: &str, log: &Path) -> Result<(), Error> {
        let mut command = guarded("skopeo");
        command.args(["--insecure-policy", "copy", "--all", "--dest-tls-verify=false"]);
        command.arg(format!("--dest-creds=AWS:{}", registry.password));
        let reference = self.for_skopeo();
        // The layers of docker's own archive are not compressed, and so its digests are made on the way.
        if !reference.starts_with("docker-archive:") && !reference.starts_with("docker-daemon:") {
            command.arg("--preserve-digests");
        }
        command.arg(reference).arg(format!("docker://{}/{repository}:{tag}", registry.host));
        run("skopeo copy", command, log, false).await?;
        Ok(())
    }

    /// The image as skopeo names it.
    #[must_use]
    pub fn for_skopeo(&self) -> String {
        let with = |path: &Path, tag: &Option<String>| match tag {
            Some(tag) => format!("{}:{tag}", path.display()),
            None => path.display().to_string(),
        };
        match &self.kind {
            Kind::Layout { directory, tag } => format!("oci:{}", with(directory, tag)),
            Kind::OciArchive { file, tag } => format!("oci-archive:{}", with(file, tag)),
            Kind::Other { reference } => reference.clone(),
        }
    }

    fn open(&self, home: &Path) -> Result<Layout, Error> {
        match &self.kind {
            Kind::Layout { directory, tag } => Layout::open(directory, tag.as_deref()),
            Kind::OciArchive { file, tag } => Layout::open_archive(file, tag.as_deref(), home),
            Kind::Other { reference } => Err(Error::Image {
                image: reference.clone(),
                problem: "only skopeo reads it, and skopeo is not installed; an OCI layout or archive needs none"
                    .to_owned(),
            }),
        }
    }
}

fn archive_names(path: &Path) -> Result<Vec<String>, Error> {
    let unreadable = |error: std::io::Error| Error::image(path, format!("not a tar archive: {error}"));
    let mut archive = tar::Archive::new(open_tar(path)?);
    let mut names = Vec::new();
    for entry in archive.entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        names.push(entry.path().map_err(unreadable)?.to_string_lossy().trim_start_matches("./").to_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    fn tar(directory: &Path, archive: &Path) {
        let mut builder = tar::Builder::new(std::fs::File::create(archive).unwrap());
        builder.append_dir_all(".", directory).unwrap();
        builder.finish().unwrap();
    }

    #[test]
    fn an_image_is_known_by_what_it_is() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        let given = |name: &str| path(name).display().to_string();
        Sample { shared_layers: vec![1], own_layers: vec![1], ..Sample::default() }.write(path("layout")).unwrap();
        tar(&path("layout"), &path("oci.tar"));
        std::fs::create_dir(path("docker")).unwrap();
        std::fs::write(path("docker").join("manifest.json"), "[]").unwrap();
        tar(&path("docker"), &path("docker.tar"));
        std::fs::write(path("text"), "not an archive").unwrap();

        let kind = |given: &str| Image::find(given).map(|image| image.kind);
        assert!(matches!(kind(&given("layout")), Ok(Kind::Layout { tag: None, .. })));
        assert!(matches!(kind(&given("layout:v1")), Ok(Kind::Layout { tag: Some(tag), .. }) if tag == "v1"));
        assert!(matches!(kind(&given("oci.tar")), Ok(Kind::OciArchive { tag: None, .. })));
        assert!(
            matches!(kind(&given("docker.tar")), Ok(Kind::Other { reference }) if reference.starts_with("docker-archive:"))
        );
        assert!(matches!(kind(&given("docker")), Ok(Kind::Other { reference }) if reference.starts_with("dir:")));
        assert!(
            matches!(kind("docker-daemon:app:v1"), Ok(Kind::Other { reference }) if reference == "docker-daemon:app:v1")
        );
        for (name, problem) in [("text", "not a tar archive"), ("nowhere", "no such file"), ("", "not an OCI layout")] {
            let error = kind(&given(name)).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn an_archive_is_read_without_skopeo_and_that_of_docker_is_not() {
        let home = tempfile::tempdir().unwrap();
        let image = Sample { shared_layers: vec![1], own_layers: vec![1], ..Sample::default() }
            .write(home.path().join("layout"))
            .unwrap();
        let archive = home.path().join("oci.tar");
        tar(&home.path().join("layout"), &archive);
        let opened = |image: &Image| image.open(home.path()).map(|layout| layout.root().digest.clone());
        let archived = Image::find(archive.to_str().unwrap()).unwrap();
        assert_eq!(opened(&archived).unwrap(), opened(&image).unwrap());

        let docker = Image::find("docker-archive:app.tar").unwrap();
        let error = opened(&docker).unwrap_err().to_string();
        assert!(error.contains("skopeo is not installed"), "{error}");
    }
}
