//! What a vector function computes, before registers: values over lanes, in blocks of nested loops.
//!
//! A value belongs to the outermost block in which its operands exist, so that what a loop does not change is
//! computed before it. Addresses and index comparisons are *slots*: `i64`s of the frame that the caller fills, and
//! that serial loops advance by a constant step, as every index is affine in the axes of the region.

/// A value, by its place in [`Region::values`].
pub(crate) type Id = usize;

/// Eight bytes of the frame, by their place.
pub(crate) type Slot = usize;

/// Where a value lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// 32-bit lanes.
    Vector,
    /// Truth values.
    Mask,
}

/// Functions of two vectors: each is one machine instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Two {
    /// Sum of floats.
    AddF,
    /// Difference of floats.
    SubF,
    /// Product of floats.
    MulF,
    /// Quotient of floats.
    DivF,
    /// `a < b ? a : b` of floats.
    MinF,
    /// `a > b ? a : b` of floats.
    MaxF,
    /// Sum of integers.
    AddI,
    /// Difference of integers.
    SubI,
    /// Product of integers.
    MulI,
    /// Smaller signed integer.
    MinS,
    /// Larger signed integer.
    MaxS,
    /// Smaller unsigned integer.
    MinU,
    /// Larger unsigned integer.
    MaxU,
    /// Bitwise and.
    And,
    /// Bitwise or.
    Or,
    /// Bitwise exclusive or.
    Xor,
    /// Shift left; 0 for an amount of 32 or more.
    Shl,
    /// Arithmetic shift right; the sign for an amount of 32 or more.
    Sar,
    /// Logical shift right; 0 for an amount of 32 or more.
    Shr,
}

/// Functions of one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum One {
    /// Square root.
    Sqrt,
    /// To an integral float, by the mode of the instruction: 0 nearest, 1 down, 2 up, 3 toward zero.
    Round(u8),
    /// Signed integer to float.
    ToFloat,
    /// Float to signed integer, toward zero; the least integer where it has no room.
    ToInt,
    /// Size of a signed integer.
    AbsI,
    /// A float rounded to an `f16`.
    Half,
}

/// Comparisons of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Compare {
    /// Of floats, by the predicate of the instruction.
    Float(u8),
    /// Equal integers.
    Equal,
    /// Is the left signed integer greater?
    Greater,
}

/// Functions of two masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Logic {
    /// Both.
    And,
    /// Either.
    Or,
    /// Exactly one.
    Xor,
    /// The right one alone.
    AndNot,
}

/// How a value comes about. Operands stand beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The same bits in all lanes.
    Splat(u32),
    /// `0, s, 2·s, …`.
    Count(i32),
    /// The low half of a slot, in all lanes.
    Uniform(Slot),
    /// The slot plus so many for each step of the vector axis, at the first lane, in all lanes; clamped to 31 bits
    /// if so wanted.
    First {
        /// The slot.
        slot: Slot,
        /// What one step of the vector axis adds.
        scale: i32,
        /// Clamp?
        clamp: bool,
    },
    /// Elements side by side. An operand, if there is one, is the mask of the lanes that may be read.
    Load(Place),
    /// One element for all lanes. An operand, if there is one, is the mask of the lanes that want it; it is read if
    /// there are any, and the others are zeros.
    Spread(Place),
    /// Elements so many apart; the operands are the distances of the lanes, and a mask.
    Gather(Place, i32),
    /// A function of two vectors.
    Two(Two),
    /// A function of one vector.
    One(One),
    /// `a·b + c`.
    Fma,
    /// A comparison.
    Compare(Compare),
    /// A function of two masks.
    Logic(Logic),
    /// The other lanes.
    Not,
    /// Of a mask, the lanes that exist in this iteration; only computed where some may not.
    Existing,
    /// `yes` where the mask holds, else `no`; the mask is the first operand.
    Blend,
    /// The operand.
    Copy,
    /// The first operand in the lanes that exist in this iteration, else the second.
    Keep,
    /// In each lane the one that is so many further on; it tells nothing of the last ones.
    Down(u8),
    /// The first lane of the operand, in all lanes.
    Lowest,
    /// Half of the accumulators of a fold; it is given its value by [`Item::Fold`].
    Half,
    /// A variable; it is given values by [`Item::Set`].
    Cell,
}

/// What an element of memory is, which a lane of 32 bits holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Element {
    /// All of the lane.
    Lane,
    /// The low byte of a number from 0 to 255.
    Unsigned,
    /// The low byte of a number from -128 to 127.
    Signed,
    /// An `f16` whose value the lane has as an `f32`.
    Half,
    /// A `bf16` whose value the lane has as an `f32`: its upper half.
    Brain,
}

impl Element {
    /// Bytes in memory.
    pub(crate) fn bytes(self) -> i32 {
        match self {
            Element::Lane => 4,
            Element::Half | Element::Brain => 2,
            Element::Unsigned | Element::Signed => 1,
        }
    }
}

/// An address: a slot and bytes beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// What is there.
    pub(crate) element: Element,
    /// The slot with the address.
    pub(crate) slot: Slot,
    /// Bytes beyond.
    pub(crate) distance: i32,
}

/// A value.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    /// How it comes about.
    pub(crate) kind: Kind,
    /// Its operands.
    pub(crate) args: Vec<Id>,
    /// Where it lives.
    pub(crate) class: Class,
    /// Loops of the region around it.
    pub(crate) level: usize,
    /// Does it differ between the lanes?
    pub(crate) varying: bool,
}

/// One step of a block.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// Computes a value.
    Compute(Id),
    /// A variable begins.
    Declare(Id),
    /// Gives the variable a value.
    Set(Id, Id),
    /// Computes a value of which the variable is the only use.
    Into(Id, Id),
    /// Writes the lanes side by side.
    Store(Place, Id),
    /// Writes the lanes so many elements apart; the distances of the lanes, and what is written.
    Scatter(Place, i32, [Id; 2]),
    /// Writes one element, of a value that is the same in all lanes.
    StoreOne(Place, Id),
    /// Runs a loop, by its place in [`Region::loops`].
    Loop(usize),
    /// Runs a loop for the accumulators of a fold.
    Fold {
        /// The loop, by its place in [`Region::loops`].
        at: usize,
        /// The accumulators: a variable of sixteen lanes.
        acc: Id,
        /// What they are at first.
        first: Id,
        /// The finished accumulators: the lower eight lanes, and the upper ones. Further lanes tell nothing.
        halves: [Id; 2],
    },
}

/// A number known when code is made, or else a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    /// Known.
    Const(i64),
    /// In the frame.
    Slot(Slot),
}

/// What a serial loop does to a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advance {
    /// The slot.
    pub(crate) slot: Slot,
    /// Added after each iteration.
    pub(crate) step: Number,
    /// Subtracted after the loop; not after one that is run once.
    pub(crate) rewind: Option<Number>,
}

/// A loop of the region.
#[derive(Debug, Clone)]
pub(crate) struct Loop {
    /// Iterations.
    pub(crate) count: Number,
    /// The slot that counts the iterations of a serial loop; a vector loop has none.
    pub(crate) counter: Option<Slot>,
    /// The body.
    pub(crate) body: Vec<Item>,
    /// Slots that it advances.
    pub(crate) advances: Vec<Advance>,
    /// May iterations run in any order?
    pub(crate) free: bool,
}

/// What one vector function does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Region {
    /// Values, operands first.
    pub(crate) values: Vec<Value>,
    /// Loops.
    pub(crate) loops: Vec<Loop>,
    /// What runs.
    pub(crate) body: Vec<Item>,
    /// Slots of the frame.
    pub(crate) slots: usize,
}
