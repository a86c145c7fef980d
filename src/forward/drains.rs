//! Answers that are read on although their client has left, of one upstream on one worker. All tenants share the
//! places, and none takes them from the others.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

/// The places that are taken, by tenant.
#[derive(Debug, Default)]
pub(crate) struct Drains {
    total: Cell<usize>,
    of_tenants: RefCell<HashMap<Arc<str>, usize>>,
}

impl Drains {
    pub(crate) fn are_over(&self) -> bool {
        self.total.get() == 0
    }

    /// Takes one of `max` places. A tenant has no more of them than are free: one alone gets half, and however
    /// many leave, there is one for the next.
    pub(crate) fn begin(&self, tenant: &Arc<str>, max: usize) -> bool {
        let mut of_tenants = self.of_tenants.borrow_mut();
        let own = of_tenants.get(tenant).copied().unwrap_or(0);
        let is_free = own < max.saturating_sub(self.total.get());
        if is_free {
            of_tenants.insert(tenant.clone(), own + 1);
            self.total.set(self.total.get() + 1);
        }
        is_free
    }

    pub(crate) fn end(&self, tenant: &Arc<str>) {
        let mut of_tenants = self.of_tenants.borrow_mut();
        if let Some(own) = of_tenants.get_mut(tenant) {
            *own -= 1;
            self.total.set(self.total.get() - 1);
            if *own == 0 {
                of_tenants.remove(tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 100 that leave at once are read on.
    fn leave(drains: &Drains, tenant: &Arc<str>, max: usize) -> usize {
        (0..100).filter(|_| drains.begin(tenant, max)).count()
    }

    #[test]
    fn however_many_of_one_tenant_leave_another_finds_places() {
        let (drains, [a, b, c]) = (Drains::default(), ["a", "b", "c"].map(Arc::<str>::from));
        assert_eq!(leave(&drains, &a, 64), 32);
        assert_eq!(leave(&drains, &b, 64), 16);
        assert_eq!(leave(&drains, &c, 64), 8);
        (0..32).for_each(|_| drains.end(&a));
        assert_eq!(leave(&drains, &b, 64), 12);
        (0..28).for_each(|_| drains.end(&b));
        (0..8).for_each(|_| drains.end(&c));
        assert!(drains.are_over() && drains.of_tenants.borrow().is_empty());
        assert_eq!(leave(&drains, &a, 0), 0);
        assert_eq!(leave(&drains, &a, 1), 1);
        assert_eq!(leave(&drains, &b, 1), 0);
    }
}
