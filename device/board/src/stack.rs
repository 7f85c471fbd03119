//! How deep the stack has been. The runtime paints it before `main` (feature `paint-stack` of `cortex-m-rt`).

/// First word after the RAM of the chip.
const TOP: usize = 0x2001_0000;

/// Bytes between the top of the RAM and the deepest word that is not as it was painted.
pub fn depth() -> usize {
    let bottom = cortex_m_rt::heap_start();
    let words = (TOP - bottom as usize) / size_of::<u32>();
    // SAFETY: from the end of the statics to the top is RAM, whole words, and nobody writes to what is below the stack.
    let unused = (0..words).take_while(|at| unsafe { bottom.add(*at).read_volatile() } == PAINT).count();
    (words - unused) * size_of::<u32>()
}

const PAINT: u32 = cortex_m_rt::STACK_PAINT_VALUE;
