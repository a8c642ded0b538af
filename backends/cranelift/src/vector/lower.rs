//! Statements to a region, or a refusal.
//!
//! Nothing is emitted here: the emitter is asked what names and indices mean, and what the caller has to put into
//! the frame is written down. A refusal leaves no trace; the loop then stays with the code generator.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ir::dim::{Dim, Symbol};
use ir::dtype::DType;
use ir::kernel::{Expr, ExprKind, LoopKind, Stmt};

use super::express::Facts;
use super::region::{Advance, Class, Element, Id, Item, Kind, Loop, Number, Place, Region, Slot, Value};
use crate::emit::{Emitter, Offset};

/// Loops inside each other, at most.
const DEEPEST: usize = 6;

/// The largest distance between lanes.
const FARTHEST: i32 = 1 << 20;

/// What the caller puts into a slot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fill {
    /// The address of an element.
    Address(Symbol, Offset),
    /// An index.
    Index(Dim),
    /// An index, plus a number and minus another, both bounded.
    Difference(Dim, Option<Expr>, Option<Expr>),
    /// A scalar as one lane.
    Scalar(Expr),
    /// Nothing: the function counts there.
    Counter,
}

/// A loop that is being lowered.
struct Open {
    at: usize,
    axis: Symbol,
    extent: Dim,
    vector: bool,
    /// Runs the body at least once whenever the region is entered?
    certain: bool,
    /// The value of the axis in the first iteration, if it is not 0.
    from: Option<Symbol>,
    advances: Vec<Advance>,
}

/// A range of the iterations of a loop, by names of numbers in the caller's scope.
pub(crate) struct Range {
    /// The first one.
    pub(crate) from: Symbol,
    /// How many there are.
    pub(crate) count: Symbol,
}

/// A slot that loops advance.
struct Advanced {
    fill: Fill,
    /// What each loop, by its place in the region, adds.
    steps: Vec<(usize, Dim)>,
    slot: Slot,
}

/// A region under construction.
pub(crate) struct Lowering<'a, 'f, 'm> {
    pub(crate) em: &'a mut Emitter<'f, 'm>,
    pub(crate) region: Region,
    /// What is in each slot of the frame.
    pub(crate) fills: Vec<Fill>,
    /// Extents that must be positive for the region to be entered.
    pub(crate) extents: Vec<Dim>,
    /// Extents that must be below a number for the region to be right.
    pub(crate) narrow: Vec<(Dim, i64)>,
    /// Scalars of the region, by name.
    pub(crate) names: BTreeMap<Symbol, (Id, DType)>,
    /// Values of the current statement's expressions, by address and by the mask that guards them.
    pub(crate) memo: HashMap<(*const ExprKind, Option<Id>), Id>,
    /// Values of the current statement by how they come about, so that equal ones are computed once.
    alike: HashMap<((Kind, Vec<Id>), usize), Id>,
    /// What is known of the current statement's expressions, by address.
    pub(crate) facts: HashMap<*const ExprKind, Facts>,
    /// Numbers between which floats are known to lie, unless they are NaN.
    pub(crate) bounds: HashMap<Id, (f32, f32)>,
    /// Arrays that the region writes.
    pub(crate) stored: BTreeSet<Symbol>,
    /// Iterations of the outermost loop, if not all.
    range: Option<Range>,
    path: Vec<Open>,
    /// The block at each depth.
    blocks: Vec<Vec<Item>>,
    /// Values that are there at each depth, by how they come about; variables and memory change.
    known: Vec<HashMap<(Kind, Vec<Id>), Id>>,
    advanced: Vec<Advanced>,
}

/// What a region is, what its frame holds, and when it is entered.
pub(crate) struct Lowered {
    pub(crate) region: Region,
    pub(crate) fills: Vec<Fill>,
    pub(crate) extents: Vec<Dim>,
    pub(crate) narrow: Vec<(Dim, i64)>,
}

/// An index in terms of the region's loops.
pub(crate) struct Affine {
    /// Where all axes are 0.
    pub(crate) base: Dim,
    /// What serial loops add, by their depth.
    pub(crate) steps: Vec<(usize, Dim)>,
    /// What one step of the vector axis adds.
    pub(crate) along: i64,
}

/// The loop as a region, or a range of it, if all of it can be one.
pub(crate) fn lower(em: &mut Emitter<'_, '_>, stmt: &Stmt, range: Option<Range>) -> Option<Lowered> {
    let mut vector = false;
    let mut stored = BTreeSet::new();
    stmt.walk(&mut |stmt| match stmt {
        Stmt::For { kind: LoopKind::Vector(_), .. } | Stmt::Fold(_) => vector = true,
        Stmt::Store { target, .. } => {
            stored.insert(target.clone());
        }
        _ => {}
    });
    if !vector {
        return None;
    }
    let scope = em.scope.clone();
    let mut lowering = Lowering {
        em,
        region: Region::default(),
        fills: Vec::new(),
        extents: Vec::new(),
        narrow: Vec::new(),
        names: BTreeMap::new(),
        memo: HashMap::new(),
        alike: HashMap::new(),
        facts: HashMap::new(),
        bounds: HashMap::new(),
        stored,
        range,
        path: Vec::new(),
        blocks: vec![Vec::new()],
        known: vec![HashMap::new()],
        advanced: Vec::new(),
    };
    let done = lowering.stmt(stmt, true);
    let Lowering { em, mut region, fills, extents, narrow, mut blocks, .. } = lowering;
    em.scope = scope;
    done?;
    region.body = blocks.pop().expect("bug: the outermost block is missing");
    region.slots = fills.len();
    Some(Lowered { region, fills, extents, narrow })
}

impl Lowering<'_, '_, '_> {
    /// `only` tells that it is all that the loop around it does.
    pub(crate) fn stmt(&mut self, stmt: &Stmt, only: bool) -> Option<()> {
        self.next();
        match stmt {
            // Threads run the iterations of such a loop.
            Stmt::For { kind: LoopKind::Parallel(_), .. } if !self.em.parallel => None,
            Stmt::For { axis, extent, kind, body } => {
                let vector = matches!(kind, LoopKind::Vector(_)) && self.vector_level().is_none();
                let free = matches!(kind, LoopKind::Parallel(_));
                let at = self.nest(axis, extent, vector, body, only)?;
                self.region.loops[at].free = free;
                self.append(Item::Loop(at));
                Some(())
            }
            Stmt::Let { name, value } => {
                let id = self.expr(value, None)?;
                let id = match self.region.values[id].kind {
                    Kind::Cell => self.push(Kind::Copy, vec![id], self.region.values[id].class, 0),
                    _ => id,
                };
                self.names.insert(name.clone(), (id, value.dtype()));
                Some(())
            }
            Stmt::Var { name, init } => {
                let first = self.region.values.len();
                let value = self.expr(init, None)?;
                let class = self.region.values[value].class;
                let cell = self.given(Kind::Cell, class, self.vector_level().is_some());
                let computed = self.take_last(value, first);
                self.append(Item::Declare(cell));
                self.append(if computed { Item::Into(cell, value) } else { Item::Set(cell, value) });
                self.names.insert(name.clone(), (cell, init.dtype()));
                Some(())
            }
            Stmt::Set { name, value } => {
                let (cell, dtype) = *self.names.get(name)?;
                let Value { kind, varying, .. } = self.region.values[cell];
                // A scalar from outside the lanes carries a value between iterations.
                let carries = !varying && self.vector_level().is_some();
                if kind != Kind::Cell || dtype != value.dtype() || carries {
                    return None;
                }
                let first = self.region.values.len();
                let value = self.expr(value, None)?;
                let computed = self.take_last(value, first);
                self.append(if computed { Item::Into(cell, value) } else { Item::Set(cell, value) });
                Some(())
            }
            Stmt::Store { target, at, value } => {
                if self.em.scope.arrays.get(target)?.dtype != value.dtype() || value.dtype() == DType::Bool {
                    return None;
                }
                let id = self.expr(value, None)?;
                let (place, along, _) = self.place(target, at, None)?;
                let item = match self.stride(along)? {
                    _ if self.vector_level().is_none() => Item::StoreOne(place, id),
                    // The last lane would have to win.
                    0 => return None,
                    1 => Item::Store(place, id),
                    _ if place.element != Element::Lane => return None,
                    stride => Item::Scatter(place, stride, [self.constant(Kind::Count(stride)), id]),
                };
                self.append(item);
                Some(())
            }
            Stmt::Fold(fold) => self.fold(fold),
            Stmt::If { .. } | Stmt::Alloc { .. } | Stmt::Gemm(_) | Stmt::Sort(_) => None,
        }
    }

    /// What was computed may be another thing from here on.
    fn next(&mut self) {
        self.memo.clear();
        self.alike.clear();
        self.facts.clear();
    }

    /// A loop of the region, which the caller appends.
    pub(crate) fn nest(
        &mut self,
        axis: &Symbol,
        extent: &Dim,
        vector: bool,
        body: &[Stmt],
        only: bool,
    ) -> Option<usize> {
        let extent = self.em.resolve(extent);
        let range = self.range.take();
        let iterations = range.as_ref().map_or(extent.clone(), |range| Dim::from(&range.count));
        let known =
            self.em.scope.locals.contains_key(axis) || self.path.iter().any(|open| open.axis == *axis);
        if self.path.len() >= DEEPEST || known || self.mentions(&extent) {
            return None;
        }
        let count = match iterations.as_const() {
            Some(count) => Number::Const(i64::from(u32::try_from(count).ok().filter(|n| *n < 1 << 31)?)),
            None => Number::Slot(self.slot(Fill::Index(iterations.clone()))),
        };
        let certain = match count {
            Number::Const(count) => count > 0,
            Number::Slot(_) if only => {
                self.extents.push(iterations);
                true
            }
            Number::Slot(_) => false,
        };
        let counter = if vector { None } else { Some(self.new_slot(Fill::Counter)) };
        let at = self.region.loops.len();
        self.region.loops.push(Loop { count, counter, body: Vec::new(), advances: Vec::new(), free: false });
        let open = Open {
            at,
            axis: axis.clone(),
            extent: extent.clone(),
            vector,
            certain,
            from: range.map(|range| range.from),
            advances: Vec::new(),
        };
        let (ranges, names) = (self.em.scope.ranges.clone(), self.names.clone());
        self.em.scope.ranges.enter(axis.clone(), extent);
        self.path.push(open);
        self.blocks.push(Vec::new());
        self.known.push(HashMap::new());
        for stmt in body {
            self.stmt(stmt, only && body.len() == 1)?;
        }
        self.next();
        self.em.scope.ranges = ranges;
        self.names = names;
        self.known.pop();
        let block = self.blocks.pop().expect("bug: the block of a loop is missing");
        let open = self.path.pop().expect("bug: an open loop is missing");
        self.region.loops[at].body = block;
        self.region.loops[at].advances = open.advances;
        Some(at)
    }

    pub(crate) fn append(&mut self, item: Item) {
        self.blocks.last_mut().expect("bug: no block").push(item);
    }

    /// Takes back the computation of `value` if it is the last thing done, so that it may go elsewhere. Values from
    /// `first` on are of the current statement.
    fn take_last(&mut self, value: Id, first: Id) -> bool {
        let block = self.blocks.last_mut().expect("bug: no block");
        let last = matches!(block.last(), Some(Item::Compute(id)) if *id == value && *id >= first);
        if last {
            block.pop();
            let Value { kind, args, level, .. } = &self.region.values[value];
            self.known[*level].remove(&(*kind, args.clone()));
        }
        last
    }

    /// Blocks around the body of the vector loop, with it, if this place is in one.
    pub(crate) fn vector_level(&self) -> Option<usize> {
        self.path.iter().position(|open| open.vector).map(|at| at + 1)
    }

    /// The extent of the vector loop around this place.
    pub(crate) fn vector_extent(&self) -> Option<Dim> {
        self.path.iter().find(|open| open.vector).map(|open| open.extent.clone())
    }

    /// Loops around this place.
    pub(crate) fn depth(&self) -> usize {
        self.path.len()
    }

    /// Does the index depend on a loop of the region?
    pub(crate) fn mentions(&self, dim: &Dim) -> bool {
        self.path.iter().any(|open| dim.mentions(&open.axis))
    }

    /// The outermost block in which something can be read that is fixed from `level` on.
    pub(crate) fn level_of_read(&self, source: &Symbol, level: usize) -> usize {
        if self.stored.contains(source) {
            return self.path.len();
        }
        let uncertain = self.path.iter().rposition(|open| !open.certain).map_or(0, |at| at + 1);
        level.max(uncertain)
    }

    /// Is this place reached whenever the region is entered?
    pub(crate) fn is_certain(&self) -> bool {
        self.path.iter().all(|open| open.certain)
    }

    /// The distance between lanes in elements, if it is small.
    pub(crate) fn stride(&self, along: i64) -> Option<i32> {
        i32::try_from(along).ok().filter(|stride| stride.abs() < FARTHEST)
    }

    /// A new value, in the outermost block where it can be.
    pub(crate) fn push(&mut self, kind: Kind, args: Vec<Id>, class: Class, level: usize) -> Id {
        let of = |&arg: &Id| match &self.region.values[arg] {
            Value { kind: Kind::Cell, .. } => self.path.len(),
            value => value.level,
        };
        let level = args.iter().map(of).max().unwrap_or(0).max(level);
        let is_cell = |&arg: &Id| self.region.values[arg].kind == Kind::Cell;
        let changes = matches!(kind, Kind::Load(_) | Kind::Spread(_) | Kind::Gather(..) | Kind::Copy);
        let known = (kind, args);
        let lasts = !changes && !known.1.iter().any(is_cell);
        let there =
            if lasts { self.known[level].get(&known) } else { self.alike.get(&(known.clone(), level)) };
        if let Some(&id) = there {
            return id;
        }
        let args = known.1.clone();
        let own = matches!(kind, Kind::Load(_) | Kind::Gather(..))
            || matches!(kind, Kind::First { scale, .. } if scale != 0);
        let varying = own || args.iter().any(|&arg| self.region.values[arg].varying);
        let id = self.region.values.len();
        self.region.values.push(Value { kind, args, class, level, varying });
        if lasts {
            self.known[level].insert(known, id);
        } else {
            self.alike.insert((known, level), id);
        }
        self.blocks[level].push(Item::Compute(id));
        id
    }

    /// A new value that items give what it is.
    pub(crate) fn given(&mut self, kind: Kind, class: Class, varying: bool) -> Id {
        self.region.values.push(Value { kind, args: vec![], class, level: self.path.len(), varying });
        self.region.values.len() - 1
    }

    /// A constant, or a scalar of the frame.
    pub(crate) fn constant(&mut self, kind: Kind) -> Id {
        self.push(kind, vec![], Class::Vector, 0)
    }

    /// The slot that holds this.
    pub(crate) fn slot(&mut self, fill: Fill) -> Slot {
        match self.fills.iter().position(|known| *known == fill) {
            Some(known) if !self.advanced.iter().any(|advanced| advanced.slot == known) => known,
            _ => self.new_slot(fill),
        }
    }

    fn new_slot(&mut self, fill: Fill) -> Slot {
        self.fills.push(fill);
        self.fills.len() - 1
    }

    /// The index in terms of the region's loops, if it is affine in their axes.
    pub(crate) fn affine(&self, dim: &Dim) -> Option<Affine> {
        let mut affine = Affine { base: dim.clone(), steps: Vec::new(), along: 0 };
        for (depth, open) in self.path.iter().enumerate() {
            let (step, rest) = affine.base.linear_in(&open.axis)?;
            if self.mentions(&step) {
                return None;
            }
            if open.vector {
                affine.along = step.as_const()?;
            } else if !step.is(0) {
                affine.steps.push((depth, step.clone()));
            }
            affine.base = match &open.from {
                Some(from) => rest + step * Dim::from(from),
                None => rest,
            };
        }
        (!self.mentions(&affine.base)).then_some(affine)
    }

    /// A slot that loops advance; each step of an index counts so many.
    pub(crate) fn advanced(&mut self, fill: Fill, steps: &[(usize, Dim)], bytes: i64) -> Option<Slot> {
        let steps: Vec<(usize, Dim)> =
            steps.iter().map(|(depth, step)| (*depth, step.clone() * Dim::constant(bytes))).collect();
        let by_loop: Vec<(usize, Dim)> =
            steps.iter().map(|(depth, step)| (self.path[*depth].at, step.clone())).collect();
        let known = self.advanced.iter().find(|known| known.fill == fill && known.steps == by_loop);
        if let Some(known) = known {
            return Some(known.slot);
        }
        let slot = self.new_slot(fill.clone());
        for (depth, step) in &steps {
            let whole = step.clone() * self.path[*depth].extent.clone();
            let step = self.number(step)?;
            let rewind = if *depth > 0 { Some(self.number(&whole)?) } else { None };
            self.path[*depth].advances.push(Advance { slot, step, rewind });
        }
        self.advanced.push(Advanced { fill, steps: by_loop, slot });
        Some(slot)
    }

    fn number(&mut self, dim: &Dim) -> Option<Number> {
        match dim.as_const() {
            Some(value) => i32::try_from(value).ok().map(|value| Number::Const(i64::from(value))),
            None => Some(Number::Slot(self.slot(Fill::Index(dim.clone())))),
        }
    }

    /// Where an element is, how many elements further each next lane is, and the outermost block where its address
    /// is fixed.
    pub(crate) fn place(
        &mut self,
        source: &Symbol,
        at: &[Expr],
        guard: Option<Id>,
    ) -> Option<(Place, i64, usize)> {
        let mut offset = self.em.offset(source, at).ok()?;
        for (index, stride) in &offset.computed {
            if self.mentions(stride) || !self.before(index, guard) {
                return None;
            }
        }
        let dtype = self.em.scope.arrays[source].dtype;
        let bytes = dtype.bytes() as i64;
        let element = match dtype {
            DType::U8 => Element::Unsigned,
            DType::I8 => Element::Signed,
            DType::F16 => Element::Half,
            DType::BF16 => Element::Brain,
            _ => Element::Lane,
        };
        let Affine { base, steps, along } = self.affine(&offset.dim)?;
        let constant = base.constant_term();
        let distance = i32::try_from(constant.saturating_mul(bytes)).ok().filter(|d| d.abs() < 1 << 24);
        offset.dim = if distance.is_some() { base - Dim::constant(constant) } else { base };
        let slot = self.advanced(Fill::Address(source.clone(), offset), &steps, bytes)?;
        let level = steps.iter().map(|(depth, _)| depth + 1).max().unwrap_or(0);
        let level = if along == 0 { level } else { level.max(self.vector_level()?) };
        Some((Place { element, slot, distance: distance.unwrap_or(0) }, along, level))
    }
}
