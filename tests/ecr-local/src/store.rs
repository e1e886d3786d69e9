use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::names::{Region, Registry, RepositoryName, RepositoryPlace};
use crate::repository::{Repository, Settings};

/// The index of everything: which repositories each registry has. The layers' bytes are on disk.
#[derive(Debug, Default)]
pub(crate) struct Store {
    registries: BTreeMap<Registry, BTreeMap<RepositoryName, Repository>>,
}

impl Store {
    /// The repositories of a registry in alphabetical order.
    pub(crate) fn repositories(&self, registry: &Registry) -> impl Iterator<Item = (&RepositoryName, &Repository)> {
        self.registries.get(registry).into_iter().flatten()
    }

    pub(crate) fn repository(&self, registry: &Registry, name: &RepositoryName) -> Result<&Repository> {
        let repositories = self.registries.get(registry);
        repositories.and_then(|repositories| repositories.get(name)).ok_or_else(|| not_found(registry, name))
    }

    pub(crate) fn repository_mut(&mut self, registry: &Registry, name: &RepositoryName) -> Result<&mut Repository> {
        let repositories = self.registries.get_mut(registry);
        repositories.and_then(|repositories| repositories.get_mut(name)).ok_or_else(|| not_found(registry, name))
    }

    pub(crate) fn create_repository(
        &mut self,
        registry: &Registry,
        name: &RepositoryName,
        settings: Settings,
    ) -> Result<&Repository> {
        let repositories = self.registries.entry(registry.clone()).or_default();
        let place = place(registry, name);
        if repositories.contains_key(name) {
            return Err(Error::RepositoryAlreadyExists(place));
        }
        Ok(repositories.entry(name.clone()).or_insert_with(|| Repository::new(place, settings)))
    }

    pub(crate) fn delete_repository(
        &mut self,
        registry: &Registry,
        name: &RepositoryName,
        force: bool,
    ) -> Result<Repository> {
        let repository = self.repository(registry, name)?;
        if !force && repository.images().next().is_some() {
            return Err(Error::RepositoryNotEmpty(repository.place.clone()));
        }
        let repositories = self.registries.get_mut(registry);
        repositories.and_then(|repositories| repositories.remove(name)).ok_or_else(|| not_found(registry, name))
    }

    /// Forgets the uploads of all accounts in a region.
    pub(crate) fn forget_uploads(&mut self, region: &Region) {
        let here = self.registries.iter_mut().filter(|(registry, _)| registry.region == *region);
        for repository in here.flat_map(|(_, repositories)| repositories.values_mut()) {
            repository.uploads.clear();
        }
    }
}

fn place(registry: &Registry, name: &RepositoryName) -> RepositoryPlace {
    RepositoryPlace { account: registry.account.clone(), name: name.clone() }
}

fn not_found(registry: &Registry, name: &RepositoryName) -> Error {
    Error::RepositoryNotFound(place(registry, name))
}
