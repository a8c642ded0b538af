//! Where barriers stand: before a statement that touches what another thread may have touched since the last one.
//!
//! Two accesses of an array conflict unless both read. Whether their elements differ is not asked.

use std::collections::BTreeSet;

use ir::dim::Symbol;
use ir::kernel::{Expr, ExprKind, Stmt};

/// The arrays that statements read and write.
#[derive(Debug, Clone, Default)]
pub(super) struct Touched {
    read: BTreeSet<Symbol>,
    written: BTreeSet<Symbol>,
}

impl Touched {
    /// Those of a statement and all inside it. A loop or a condition over other statements of the block touches what it
    /// evaluates itself: those inside are looked at one by one.
    pub(super) fn by(stmt: &Stmt) -> Touched {
        let mut touched = Touched::default();
        stmt.walk(&mut |stmt| touched.add(stmt));
        touched
    }

    fn add(&mut self, stmt: &Stmt) {
        stmt.exprs().into_iter().for_each(|e| self.loads(e));
        match stmt {
            Stmt::Store { target, .. } => {
                self.written.insert(target.clone());
            }
            Stmt::Gemm(gemm) => {
                let group = gemm.group.iter().flat_map(|group| [group.order.clone(), group.starts.clone()]);
                self.read.extend(group);
            }
            Stmt::Sort(sort) => {
                self.read.insert(sort.keys.clone());
                self.written.insert(sort.scratch.clone());
                self.written.extend(sort.results().cloned());
            }
            _ => {}
        }
    }

    fn loads(&mut self, e: &Expr) {
        e.walk(&mut |e| {
            if let ExprKind::Load { source, .. } = e.kind() {
                self.read.insert(source.clone());
            }
        });
    }
}

/// What was touched since the last barrier of those who run statements together.
#[derive(Debug, Clone, Default)]
pub(super) struct Sync {
    touched: Touched,
    /// Which of the places for what warps of a block come to may still be read.
    turns: [bool; 2],
}

impl Sync {
    pub(super) fn conflicts(&self, next: &Touched) -> bool {
        let before = &self.touched;
        !before.written.is_disjoint(&next.read)
            || !before.written.is_disjoint(&next.written)
            || !before.read.is_disjoint(&next.written)
    }

    pub(super) fn add(&mut self, touched: Touched) {
        self.touched.read.extend(touched.read);
        self.touched.written.extend(touched.written);
    }

    /// What was touched on either of two ways here.
    pub(super) fn join(&mut self, other: Sync) {
        self.add(other.touched);
        for (mine, theirs) in self.turns.iter_mut().zip(other.turns) {
            *mine |= theirs;
        }
    }

    /// Statements that may have run just before these.
    pub(super) fn add_all(&mut self, before: &[Stmt]) {
        before.iter().for_each(|stmt| {
            self.add(Touched::by(stmt));
            stmt.walk(&mut |stmt| {
                if matches!(stmt, Stmt::Fold(_)) {
                    self.turns = [true; 2];
                }
            });
        });
    }

    pub(super) fn free_turn(&self) -> Option<usize> {
        self.turns.iter().position(|taken| !taken)
    }

    pub(super) fn take_turn(&mut self, turn: usize) {
        self.turns[turn] = true;
    }

    pub(super) fn clear(&mut self) {
        *self = Sync::default();
    }
}
