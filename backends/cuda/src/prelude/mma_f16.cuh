struct MmaF16 {
  // They are as they should be.
  template <class Packs> static __device__ void prepare(Packs&) {}
  __device__ void operator()(float (&sums)[4], const u32 (&a)[4], u32 b0, u32 b1) const {
#ifdef EGRAFT_SHIM
    shim::mma(sums, a, b0, b1, from_f16);
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
  }
};
