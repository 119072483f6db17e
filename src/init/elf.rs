//! Whether an ELF program needs a dynamic loader: whether it has a PT_INTERP header. Pure: reads only the file's first
//! bytes.

/// How a program is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Linkage {
    /// It runs in an empty root file system.
    Static,
    /// It names a loader, which must be in the root file system with the libraries.
    Dynamic,
}

const PT_INTERP: u32 = 3;

/// Reads the headers; `None` if the bytes are not a whole ELF program header table.
pub(super) fn linkage(bytes: &[u8]) -> Option<Linkage> {
    if bytes.get(..4)? != b"\x7fELF" {
        return None;
    }
    let wide = *bytes.get(4)? == 2;
    let big = *bytes.get(5)? == 2;
    let number = |at: usize, len: usize| -> Option<usize> {
        let field = bytes.get(at..at.checked_add(len)?)?;
        let digit = |sum: usize, byte: &u8| (sum << 8) | usize::from(*byte);
        Some(if big {
            field.iter().fold(0, digit)
        } else {
            field.iter().rev().fold(0, digit)
        })
    };
    // e_phoff, e_phentsize and e_phnum of the two classes; ELF specification, figure 1-3.
    let (table, size, count) = if wide {
        (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?)
    } else {
        (number(0x1c, 4)?, number(0x2a, 2)?, number(0x2c, 2)?)
    };
    for i in 0..count {
        let at = table.checked_add(i.checked_mul(size)?)?;
        if u32::try_from(number(at, 4)?).ok()? == PT_INTERP {
            return Some(Linkage::Dynamic);
        }
    }
    Some(Linkage::Static)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A 64-bit little-endian program with headers of these types.
    pub(in crate::init) fn program(types: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56 * types.len()];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[0x20] = 64;
        bytes[0x36] = 56;
        bytes[0x38] = u8::try_from(types.len()).unwrap();
        for (i, kind) in types.iter().enumerate() {
            bytes[64 + 56 * i] = *kind;
        }
        bytes
    }

    #[test]
    fn a_program_that_names_a_loader_is_dynamic() {
        assert_eq!(linkage(&program(&[6, 1, 3, 2])), Some(Linkage::Dynamic));
        assert_eq!(linkage(&program(&[6, 1, 2])), Some(Linkage::Static));
    }

    #[test]
    fn both_byte_orders_and_both_widths_are_read() {
        let mut big = vec![0; 52 + 32];
        big[..6].copy_from_slice(b"\x7fELF\x01\x02");
        big[0x1f] = 52;
        big[0x2b] = 32;
        big[0x2d] = 1;
        big[55] = 3;
        assert_eq!(linkage(&big), Some(Linkage::Dynamic));
        big[55] = 1;
        assert_eq!(linkage(&big), Some(Linkage::Static));
    }

    #[test]
    fn what_is_cut_short_or_lies_about_its_table_is_no_program() {
        let whole = program(&[1, 3]);
        for len in 0..whole.len() - 56 {
            assert_eq!(linkage(&whole[..len]), None, "{len} bytes");
        }
        let mut lying = program(&[1]);
        lying[0x20..0x28].fill(0xff);
        assert_eq!(linkage(&lying), None);
    }

    #[test]
    fn this_test_is_a_program() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        assert!(linkage(&bytes).is_some());
    }
}
