//! The containers that a server knows, by id and by name. It is one server's view; the records are the truth.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::served::Served;
use crate::ContainerId;
use crate::engine::names::{self, NotOne};

/// The containers.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<Maps>);

#[derive(Debug, Default)]
struct Maps {
    by_id: BTreeMap<ContainerId, Arc<Served>>,
    /// The last one has the name. The others were removed a moment ago, and are still known.
    by_name: HashMap<String, Vec<ContainerId>>,
}

impl Registry {
    /// Changes a container's record, and with it the container's name.
    pub(super) fn rename(&self, served: &Arc<Served>, change: impl FnOnce(&Served)) {
        let mut maps = self.maps();
        let known = maps.forget_if(served);
        change(served);
        if let Some(known) = known {
            maps.insert(known);
        }
    }

    /// Adds a container in place of an earlier one of its id, unless this very container is there already, and is kept.
    /// Returns the one that was replaced.
    ///
    /// # Errors
    /// The container is there already; nothing is changed.
    pub(super) fn insert_new(&self, served: Arc<Served>) -> Result<Option<Arc<Served>>, Arc<Served>> {
        let mut maps = self.maps();
        let known = maps.by_id.get(served.id()).cloned();
        let is_same = |known: &Arc<Served>| {
            known.container().is_kept() && known.container().attempt() == served.container().attempt()
        };
        match known {
            Some(known) if is_same(&known) => Err(served),
            known => {
                maps.insert(served);
                Ok(known)
            }
        }
    }

    /// Forgets a container that another process has removed. The caller tells those who wait for that.
    pub(super) fn remove(&self, id: &ContainerId) -> Option<Arc<Served>> {
        self.maps().forget(id)
    }

    /// Forgets a container that this process has removed, unless another one has its id by now, and tells those who wait
    /// for that.
    pub(super) fn forget(&self, served: &Arc<Served>) {
        drop(self.maps().forget_if(served));
        served.ends();
    }

    /// The container of this id.
    pub(super) fn get(&self, id: &ContainerId) -> Option<Arc<Served>> {
        self.maps().by_id.get(id).cloned()
    }

    /// Whether there is a container of this id.
    pub(super) fn has(&self, id: &str) -> bool {
        self.maps().by_id.contains_key(id)
    }

    /// All containers, by id.
    pub(super) fn all(&self) -> Vec<Arc<Served>> {
        self.maps().by_id.values().cloned().collect()
    }

    /// The container that `given` refers to.
    pub(super) fn find(&self, given: &str) -> Result<Arc<Served>, NotOne> {
        let maps = self.maps();
        if let Some(served) = maps.by_id.get(given) {
            return Ok(Arc::clone(served));
        }
        let named = maps.by_name.get(given).and_then(|ids| ids.last());
        let named = named.map(|id| (id, Some(given)));
        let from = (Bound::Included(given), Bound::Unbounded);
        let later = maps.by_id.range::<str, _>(from).map(|(id, _)| (id, None));
        let begin = later.take_while(|(id, _)| id.as_str().starts_with(given));
        // Ids that people chose have no beginnings; two others are enough to know that there are several.
        let begin = begin.filter(|(id, _)| id.is_random()).take(2);
        let id = names::chosen(given, named.into_iter().chain(begin))?;
        maps.by_id.get(&id).cloned().ok_or(NotOne::None)
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maps {
    fn insert(&mut self, served: Arc<Served>) {
        let (id, name) = (served.id().clone(), served.name());
        self.forget(&id);
        if let Some(name) = name {
            self.by_name.entry(name).or_default().push(id.clone());
        }
        self.by_id.insert(id, served);
    }

    fn forget(&mut self, id: &ContainerId) -> Option<Arc<Served>> {
        let served = self.by_id.remove(id)?;
        if let Some(name) = served.name()
            && let Entry::Occupied(mut ids) = self.by_name.entry(name)
        {
            ids.get_mut().retain(|of| of != id);
            if ids.get().is_empty() {
                ids.remove();
            }
        }
        Some(served)
    }

    /// Forgets this container, unless another one has its id by now.
    fn forget_if(&mut self, served: &Arc<Served>) -> Option<Arc<Served>> {
        let known = self.by_id.get(served.id())?;
        let is_same = Arc::ptr_eq(known, served);
        is_same.then(|| self.forget(served.id())).flatten()
    }
}
