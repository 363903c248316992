use super::*;

const ELF: &[u8] = b"\x7fELF and then the kernel, the kernel, the kernel";

/// A bzImage with nothing but what the boot protocol says about its payload.
fn bz_image(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 0x600];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x248..0x24c].copy_from_slice(&0x200u32.to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    image.extend_from_slice(payload);
    image.extend_from_slice(b"what follows is none of ours");
    image
}

fn check(payload: &[u8]) {
    assert_eq!(extract(&bz_image(payload)).unwrap(), ELF);
}

#[test]
fn a_kernel_is_found_whatever_it_is_packed_with() {
    check(ELF);
    let block = lz4_flex::block::compress(ELF);
    let mut lz4 = vec![0x02, 0x21, 0x4c, 0x18];
    lz4.extend_from_slice(&u32::try_from(block.len()).unwrap().to_le_bytes());
    lz4.extend_from_slice(&block);
    // The payload's own end: the uncompressed size, which is larger than anything that follows.
    lz4.extend_from_slice(&u32::try_from(ELF.len()).unwrap().to_le_bytes());
    check(&lz4);
    let mut zstd = zstd::encode_all(ELF, 1).unwrap();
    zstd.extend_from_slice(&u32::try_from(ELF.len()).unwrap().to_le_bytes());
    check(&zstd);
    let mut xz = Vec::new();
    xz2::read::XzEncoder::new(ELF, 1).read_to_end(&mut xz).unwrap();
    xz.extend_from_slice(&u32::try_from(ELF.len()).unwrap().to_le_bytes());
    check(&xz);
}

#[test]
fn anything_else_is_refused_with_its_first_bytes() {
    let error = extract(&bz_image(b"BZh91AY")).unwrap_err().to_string();
    assert!(error.contains("42, 5a, 68"), "{error}");
    assert!(extract(b"short").is_err());
    assert!(extract(&bz_image(&zstd::encode_all(&b"no ELF"[..], 1).unwrap())).is_err());
}
