//! Services as values: copied, compared and hashed, though nobody knows which service it is.

use std::any::Any;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

use super::Service;

/// A service can be copied and compared, so that a whole member can: what checks all that may happen to a cluster needs
/// that. Every service that derives `Clone`, `Debug`, `Eq` and `Hash` has it.
pub trait Copies: Debug + Send + Sync {
    /// A copy.
    fn copy(&self) -> Box<dyn Service>;

    /// The same service in the same state?
    fn is_same(&self, other: &dyn Service) -> bool;

    /// Its state into a hash.
    fn hash_into(&self, hasher: &mut dyn Hasher);
}

impl<T: Service + Clone + Eq + Hash + Send + Sync + 'static> Copies for T {
    fn copy(&self) -> Box<dyn Service> {
        Box::new(self.clone())
    }

    fn is_same(&self, other: &dyn Service) -> bool {
        let other: &dyn Any = other.as_any();
        other.downcast_ref::<T>() == Some(self)
    }

    fn hash_into(&self, mut hasher: &mut dyn Hasher) {
        self.hash(&mut hasher);
    }
}

impl Clone for Box<dyn Service> {
    fn clone(&self) -> Self {
        (**self).copy()
    }
}

impl PartialEq for Box<dyn Service> {
    fn eq(&self, other: &Self) -> bool {
        (**self).is_same(&**other)
    }
}

impl Eq for Box<dyn Service> {}

impl Hash for Box<dyn Service> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash_into(state);
    }
}
