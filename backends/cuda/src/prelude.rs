//! What stands before the functions of a source: only what they use.

use std::collections::BTreeSet;

/// The pieces that a source needs.
#[derive(Debug, Default)]
pub(crate) struct Prelude(BTreeSet<usize>);

/// A name, the names of pieces that it uses, and its text.
type Piece = (&'static str, &'static [&'static str], &'static str);

impl Prelude {
    /// Adds a piece and what it uses.
    pub(crate) fn need(&mut self, name: &str) {
        let at = PIECES.iter().position(|(known, ..)| *known == name);
        let at = at.expect("bug: a piece that there is not");
        if self.0.insert(at) {
            PIECES[at].1.iter().for_each(|used| self.need(used));
        }
    }

    /// The pieces, in order.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|&at| format!("{}\n", PIECES[at].2.trim_start_matches('\n'))).collect()
    }
}

/// Every piece, those that others use first.
const PIECES: &[Piece] = &[
    ("integers", &[], "
typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
"),
    ("shared", &[], "
#ifndef EGRAFT_SHIM
extern __shared__ __align__(16) unsigned char shared_bytes[];
template <class T> __device__ T* shared(int first) { return (T*)(shared_bytes + first); }
#endif
"),
    // Elements that are loaded and stored at once.
    ("Vector", &[], "
template <class T, int n> struct alignas(sizeof(T) * n) Vector { T at[n]; };
"),
    ("infinity", &[], "
#define INFINITE __int_as_float(0x7f800000)
#define NOT_A_NUMBER __int_as_float(0x7fc00000)
"),
    ("is_nan", &[], "
__device__ bool is_nan(float x) { return x != x; }
__device__ bool is_nan(double x) { return x != x; }
"),
    ("is_inf", &[], "
__device__ bool is_inf(float x) { return x == x && x - x != x - x; }
__device__ bool is_inf(double x) { return x == x && x - x != x - x; }
"),
    ("floor_div", &[], "
template <class T> __device__ T floor_div(T a, T b) { return a / b - (a % b < 0); }
"),
    ("min_int", &[], "
template <class T> __device__ T min_int(T a, T b) { return a < b ? a : b; }
"),
    ("max_int", &[], "
template <class T> __device__ T max_int(T a, T b) { return a > b ? a : b; }
"),
    // NaN if either is.
    ("smaller", &[], "
__device__ float smaller(float a, float b) { return b < a || b != b ? b : a; }
__device__ double smaller(double a, double b) { return b < a || b != b ? b : a; }
"),
    ("larger", &[], "
__device__ float larger(float a, float b) { return a < b || b != b ? b : a; }
__device__ double larger(double a, double b) { return a < b || b != b ? b : a; }
"),
    ("mod_float", &[], "
__device__ float mod_float(float a, float b) { float r = fmodf(a, b); return r != 0 && (r < 0) != (b < 0) ? r + b : r; }
__device__ double mod_float(double a, double b) { double r = fmod(a, b); return r != 0 && (r < 0) != (b < 0) ? r + b : r; }
"),
    ("abs_int", &["integers"], "
template <class T> __device__ T abs_int(T x) { return x < 0 ? (T)(0 - (u64)x) : x; }
"),
    // Whole numbers: nothing is undefined, a quotient by 0 is 0.
    ("div_int", &["integers"], "
template <class T> __device__ T div_int(T a, T b) { return b == 0 ? 0 : (T)-1 < 0 && b == (T)-1 ? (T)(0 - (u64)a) : a / b; }
"),
    ("rem_int", &["integers"], "
template <class T> __device__ T rem_int(T a, T b) { return b == 0 || ((T)-1 < 0 && b == (T)-1) ? 0 : a % b; }
"),
    ("mod_int", &["rem_int"], "
template <class T> __device__ T mod_int(T a, T b) { T r = rem_int(a, b); return r != 0 && (r < 0) != (b < 0) ? r + b : r; }
"),
    ("pow_int", &["integers"], "
template <class T> __device__ T pow_int(T x, T y) {
  if (y < 0) return x == 1 ? 1 : x == (T)-1 ? (T)(y % 2 == 0 ? 1 : -1) : 0;
  u64 power = 1, base = (u64)x;
  // An exponent without a sign ends at 32 bits.
  for (u64 e = (T)-1 > 0 && (u64)y > 0xffffffffu ? 0xffffffffu : (u64)y; e; e >>= 1, base *= base) if (e & 1) power *= base;
  return (T)power;
}
"),
    ("shift_left", &["integers"], "
template <class T> __device__ T shift_left(T x, T by) { return by < 0 || (u64)by >= 8 * sizeof(T) ? 0 : (T)((u64)x << by); }
"),
    ("shift_right", &["integers"], "
template <class T> __device__ T shift_right(T x, T by) { return by < 0 || (u64)by >= 8 * sizeof(T) ? (T)(x < 0 ? -1 : 0) : (T)(x >> by); }
"),
    // Toward zero, saturating; NaN is 0.
    ("truncated", &["integers"], "
template <class To, class From> __device__ To truncated(From x) {
  const bool has_sign = (To)-1 < 0;
  const int bits = 8 * sizeof(To) - has_sign;
  const From end = (From)(1ull << (bits - 1)) * 2, start = has_sign ? -end : (From)0;
  const To most = (To)(~0ull >> (64 - bits)), least = has_sign ? (To)(-(i64)most - 1) : (To)0;
  return x != x ? (To)0 : x >= end ? most : x <= start ? least : (To)x;
}
"),
    ("cut_signed", &["integers"], "
template <int bits> __device__ int cut_signed(i64 x) { return (int)((u32)x << (32 - bits)) >> (32 - bits); }
"),
    ("cut_unsigned", &["integers"], "
template <int bits> __device__ int cut_unsigned(i64 x) { return (int)((u32)x & ((1u << bits) - 1)); }
"),
    // Floats of fewer bits: those of the fraction, the bias, and what the topmost codes mean (0 as IEEE 754 has it, 1 only
    // the topmost is NaN, 2 only that of -0 is, 3 all are numbers, 4 an exponent and nothing else).
    ("decoded", &["integers", "infinity"], "
template <int bits, int fraction, int bias, int specials> __device__ float decoded(u32 code) {
  const u32 sign = specials == 4 ? 0 : 1u << (bits - 1), magnitude = code & ((1u << bits) - 1) & ~sign;
  const u32 top = ((1u << bits) - 1) & ~sign;
  if (specials == 4) return magnitude == top ? NOT_A_NUMBER : magnitude == 0 ? __int_as_float(1 << 22) : __int_as_float(magnitude << 23);
  if (specials == 2 && (code & ((1u << bits) - 1)) == sign) return NOT_A_NUMBER;
  if (specials == 1 && magnitude == top) return code & sign ? -NOT_A_NUMBER : NOT_A_NUMBER;
  const u32 infinite = top >> fraction << fraction;
  float x = magnitude > infinite ? NOT_A_NUMBER : INFINITE;
  // The exponent's bias grows; a product does that for subnormals, too.
  if (specials != 0 || magnitude < infinite) x = __int_as_float(magnitude << (23 - fraction)) * __int_as_float((254 - bias) << 23);
  return code & sign ? -x : x;
}
"),
    ("encoded", &["integers", "infinity"], "
template <int bits, int fraction, int bias, int specials> __device__ u32 encoded(float x) {
  const u32 sign = specials == 4 ? 0 : 1u << (bits - 1), top = ((1u << bits) - 1) & ~sign;
  const u32 infinite = top >> fraction << fraction;
  const u32 nan = specials == 0 ? infinite | 1u << (fraction - 1) : specials == 1 || specials == 4 ? top : 1u << (bits - 1);
  const u32 largest = specials == 0 ? infinite - 1 : specials == 1 || specials == 4 ? top - 1 : top;
  const u32 beyond = specials == 0 ? infinite : specials == 3 ? largest : nan;
  u32 magnitude = (u32)__float_as_int(x) & 0x7fffffffu;
  const u32 signs = (u32)__float_as_int(x) >> 31 ? sign : 0;
  if (specials == 4) {
    if (!(x > 0) || magnitude >= 0x7f800000u) return nan;
    // To the nearest power of two, or the larger of two; below the least one there is no number.
    const u32 exponent = magnitude >> 23, rest = magnitude & 0x7fffffu;
    if (exponent == 0) return rest <= 0x200000u ? nan : rest < 0x600000u ? 0 : 1;
    const u32 code = exponent + (rest >= 0x400000u);
    return code >= top ? nan : code;
  }
  if (magnitude > 0x7f800000u) return specials >= 2 ? nan : nan | signs;
  u32 code;
  if (magnitude >= (u32)(128 - bias) << 23) {
    const u32 shrunk = magnitude - ((u32)(127 - bias) << 23), drop = 23 - fraction;
    code = (shrunk + (1u << (drop - 1)) - 1 + (shrunk >> drop & 1)) >> drop;
  } else {
    // Adding a number whose last digit has the place of theirs drops those that have none.
    const u32 shift = (u32)(127 + 1 - bias - fraction + 23) << 23;
    code = (u32)__float_as_int(__int_as_float(magnitude) + __int_as_float(shift)) - shift;
  }
  if (code > largest) code = beyond;
  if (specials == 2 && code == 0) return 0;
  return code == nan && specials >= 2 ? nan : code | signs;
}
"),
    // What rounds on to fewer bits as the number itself does.
    ("to_odd", &["integers"], "
__device__ float to_odd(double x) {
  const float near = (float)x;
  if ((double)near == x || near != near || (__float_as_int(near) & 1)) return near;
  return __int_as_float(__float_as_int(near) + (fabs((double)near) < fabs(x) ? 1 : -1));
}
"),
    ("f16", &[], "
typedef unsigned short f16;
"),
    ("from_f16", &["f16", "decoded"], include_str!("prelude/from_f16.cuh")),
    ("to_f16", &["f16", "encoded"], include_str!("prelude/to_f16.cuh")),
    ("round_f16", &["from_f16", "to_f16"], "
__device__ float round_f16(float x) { return from_f16(to_f16(x)); }
"),
    ("bf16", &[], "
typedef unsigned short bf16;
"),
    ("from_bf16", &["bf16", "integers"], "
__device__ float from_bf16(bf16 x) { return __int_as_float((i32)((u32)x << 16)); }
"),
    ("to_bf16", &["bf16", "integers"], "
__device__ bf16 to_bf16(float x) {
  const u32 bits = (u32)__float_as_int(x);
  return x != x ? (bf16)(bits >> 16 | 64) : (bf16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
"),
    ("round_bf16", &["from_bf16", "to_bf16"], "
__device__ float round_bf16(float x) { return from_bf16(to_bf16(x)); }
"),
    // Parts of products; see `emit/gemm`.
    ("tiles", &["integers", "shared"], include_str!("prelude/tiles.cuh")),
    ("tile_fma", &["tiles"], include_str!("prelude/tile_fma.cuh")),
    ("mma_tile", &["tiles"], include_str!("prelude/mma_tile.cuh")),
    ("tile_mma", &["mma_tile"], include_str!("prelude/tile_mma.cuh")),
    ("tile_copied", &["mma_tile"], include_str!("prelude/tile_copied.cuh")),
    ("MmaF16", &["from_f16"], include_str!("prelude/mma_f16.cuh")),
    ("MmaBF16", &["from_bf16"], include_str!("prelude/mma_bf16.cuh")),
    ("MmaTF32", &["integers"], include_str!("prelude/mma_tf32.cuh")),
    ("rows_of_tile", &["integers", "shared"], include_str!("prelude/rows_of_tile.cuh")),
    ("reductions", &[], "
struct Sum { template <class T> __device__ T operator()(T a, T b) const { return a + b; } };
struct Product { template <class T> __device__ T operator()(T a, T b) const { return a * b; } };
struct Largest { template <class T> __device__ T operator()(T a, T b) const { return a < b || b != b ? b : a; } };
struct Smallest { template <class T> __device__ T operator()(T a, T b) const { return b < a || b != b ? b : a; } };
struct Any { __device__ bool operator()(bool a, bool b) const { return a || b; } };
struct All { __device__ bool operator()(bool a, bool b) const { return a && b; } };
"),
    // The threads of a group among those of its warp.
    ("members", &[], "
template <int lanes> __device__ unsigned members() { return ~0u >> (32 - lanes) << (threadIdx.x & (32 - lanes)); }
"),
    // The lanes of a group come together by halves, and all get what the first has then.
    ("in_group", &["members"], "
template <int lanes, class T, class Op> __device__ T in_group(T x, Op op) {
  #pragma unroll
  for (int half = lanes / 2; half > 0; half /= 2) x = op(x, (T)__shfl_down_sync(members<lanes>(), x, half, lanes));
  return (T)__shfl_sync(members<lanes>(), x, 0, lanes);
}
"),
    // Each warp of a block by itself, then what they have.
    ("in_block", &["in_group"], "
template <int threads, class T, class Warps, class Op> __device__ T in_block(T x, Warps warps, Op op) {
  x = in_group<32>(x, op);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
  __syncthreads();
  return in_group<threads / 32>((T)warps[threadIdx.x % (threads / 32)], op);
}
"),
    // Where an element of a row belongs when runs of places are merged, two by two: it finds its place in the run beside its
    // own by halves. Equal elements keep their order: those on the left come first.
    ("merge_place", &["integers"], "
struct Key { template <class T> __device__ T operator()(T x) const { return x; } };
template <bool descending, class T> __device__ bool is_before(T a, T b) {
  const T x = descending ? b : a, y = descending ? a : b;
  return x < y || (y != y && x == x);
}
template <bool descending, class Place, class Places, class KeyAt>
__device__ void merge_place(Places from, Places to, Place i, Place n, Place width, KeyAt key_at) {
  const Place start = i / (2 * width) * 2 * width;
  const Place middle = start + width < n ? start + width : n, end = start + 2 * width < n ? start + 2 * width : n;
  const bool is_left = i < middle;
  const Place mine = from[i];
  const auto x = key_at(mine);
  Place low = is_left ? middle : start, high = is_left ? end : middle;
  const Place begin = low;
  while (low < high) {
    const Place half = (low + high) / 2;
    const auto y = key_at(from[half]);
    if (is_left ? is_before<descending>(y, x) : !is_before<descending>(x, y)) low = half + 1; else high = half;
  }
  to[start + (i - (is_left ? start : middle)) + (low - begin)] = mine;
}
"),
    // The places of a chunk of a row in order, by a block in shared memory.
    ("sort_chunk", &["merge_place"], "
template <bool descending, class T, class Chunk, class Places, class Key>
__device__ Places sort_chunk(const T* keys, i64 inner, int n, Chunk in_chunk, Places places, Places others, Key key) {
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    in_chunk[i] = key(keys[i * inner]);
    places[i] = i;
  }
  __syncthreads();
  const auto key_at = [&](int at) { return (decltype(key(keys[0])))in_chunk[at]; };
  for (int width = 1; width < n; width *= 2) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) merge_place<descending>(places, others, i, n, width, key_at);
    __syncthreads();
    const Places sorted = others; others = places; places = sorted;
  }
  return places;
}
"),
    // Each row by a block. What fits a chunk needs no more than that; the chunks of a longer row are merged in scratch
    // memory, of which there is enough for so many rows at a time.
    ("sort_rows", &["sort_chunk"], "
template <bool descending, int chunk, class T, class Chunk, class Places, class Key>
__device__ void sort_rows(const T* keys, i64 rows, i64 inner, i64 n, T* values, i64 kept_values,
                          i64* positions, i64 kept_positions, i64* scratch, i64 room,
                          Chunk in_chunk, Places places, Places others, Key key) {
  const i64 together = n <= chunk || gridDim.x < room ? gridDim.x : room;
  if (blockIdx.x >= together) return;
  for (i64 row = blockIdx.x; row < rows; row += together) {
    const i64 first = row / inner, last = row % inner;
    const T* const mine = keys + first * n * inner + last;
    i64 *from = scratch + blockIdx.x * 2 * n, *to = from + n;
    const auto write = [&](auto sorted) {
      for (i64 i = threadIdx.x; i < kept_values; i += blockDim.x)
        values[(first * kept_values + i) * inner + last] = i < n ? mine[sorted[i] * inner] : (T)0;
      for (i64 i = threadIdx.x; i < kept_positions; i += blockDim.x)
        positions[(first * kept_positions + i) * inner + last] = i < n ? sorted[i] : 0;
      __syncthreads();
    };
    if (n <= chunk) {
      write(sort_chunk<descending>(mine, inner, (int)n, in_chunk, places, others, key));
      continue;
    }
    for (i64 start = 0; start < n; start += chunk) {
      const int count = n - start < chunk ? n - start : chunk;
      const Places sorted = sort_chunk<descending>(mine + start * inner, inner, count, in_chunk, places, others, key);
      for (int i = threadIdx.x; i < count; i += blockDim.x) from[start + i] = start + sorted[i];
      __syncthreads();
    }
    const auto key_at = [&](i64 at) { return key(mine[at * inner]); };
    for (i64 width = chunk; width < n; width *= 2) {
      for (i64 i = threadIdx.x; i < n; i += blockDim.x) merge_place<descending>(from, to, i, n, width, key_at);
      __syncthreads();
      i64* const sorted = to; to = from; from = sorted;
    }
    write(from);
  }
}
"),
    // A few long rows by all blocks: each has a chunk of a row; then every thread has an element, merge by merge.
    ("sort_chunks", &["sort_chunk"], "
template <bool descending, int chunk, class T, class Chunk, class Places, class Key>
__device__ void sort_chunks(const T* keys, i64 inner, i64 n, i64* scratch,
                            Chunk in_chunk, Places places, Places others, Key key) {
  const i64 chunks = (n + chunk - 1) / chunk, row = blockIdx.x / chunks, start = blockIdx.x % chunks * chunk;
  const int count = n - start < chunk ? n - start : chunk;
  const T* const mine = keys + row / inner * n * inner + row % inner + start * inner;
  const Places sorted = sort_chunk<descending>(mine, inner, count, in_chunk, places, others, key);
  i64* const to = scratch + row * 2 * n + start;
  for (int i = threadIdx.x; i < count; i += blockDim.x) to[i] = start + sorted[i];
}
"),
    ("merge_chunks", &["merge_place"], "
template <bool descending, int chunk, class T, class Key>
__device__ void merge_chunks(const T* keys, i64 rows, i64 inner, i64 n, i64* scratch, int turn, Key key) {
  const i64 element = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (element >= rows * n) return;
  const i64 row = element / n;
  const T* const mine = keys + row / inner * n * inner + row % inner;
  i64* const both = scratch + row * 2 * n;
  merge_place<descending>(both + turn % 2 * n, both + (turn + 1) % 2 * n, element % n, n, (i64)chunk << turn,
                          [&](i64 at) { return key(mine[at * inner]); });
}
"),
    ("write_sorted", &["integers"], "
template <int chunk, class T>
__device__ void write_sorted(const T* keys, i64 rows, i64 inner, i64 n, T* values, i64 kept_values,
                             i64* positions, i64 kept_positions, const i64* scratch) {
  const i64 most = kept_values > kept_positions ? kept_values : kept_positions;
  const i64 element = (i64)blockIdx.x * blockDim.x + threadIdx.x;
  if (element >= rows * most) return;
  const i64 row = element / most, i = element % most, first = row / inner, last = row % inner;
  int turn = 0;
  for (i64 width = chunk; width < n; width *= 2) turn = 1 - turn;
  const i64 place = i < n ? scratch[(row * 2 + turn) * n + i] : 0;
  if (i < kept_values) values[(first * kept_values + i) * inner + last] = i < n ? keys[(first * n + place) * inner + last] : (T)0;
  if (i < kept_positions) positions[(first * kept_positions + i) * inner + last] = place;
}
"),
    ("KeyF16", &["from_f16"], "
struct KeyF16 { __device__ float operator()(f16 x) const { return from_f16(x); } };
"),
    ("KeyBF16", &["from_bf16"], "
struct KeyBF16 { __device__ float operator()(bf16 x) const { return from_bf16(x); } };
"),
];
