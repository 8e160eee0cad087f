//! Writes a group, an array and a sharded array, some of it into chunks that are there, and reads them back; `read`
//! only reads.
use std::sync::Arc;
use zarrs::array::{codec, data_type, Array, ArrayBuilder};
use zarrs::filesystem::FilesystemStore;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn write(store: &Arc<FilesystemStore>) -> Result<()> {
    zarrs::group::GroupBuilder::new().build(store.clone(), "/")?.store_metadata()?;
    let a = ArrayBuilder::new(vec![20, 30], vec![5, 10], data_type::int32(), -1i32).build(store.clone(), "/a")?;
    a.store_metadata()?;
    a.store_array_subset(&[0..20, 0..30], (0..600).collect::<Vec<i32>>())?;
    a.store_array_subset(&[4..6, 9..11], vec![7i32; 4])?;
    a.erase_chunk(&[3, 2])?;
    let s = ArrayBuilder::new(vec![16, 16], vec![8, 8], data_type::int32(), 0i32)
        .subchunk_shape(vec![4, 4])
        .bytes_to_bytes_codecs(vec![Arc::new(codec::GzipCodec::new(5)?)])
        .build(store.clone(), "/s")?;
    s.store_metadata()?;
    s.store_array_subset(&[0..16, 0..16], (0..256).collect::<Vec<i32>>())?;
    // Inner chunks written into shards that are there: pwrite at offsets, no truncation.
    zarrs::config::global_config_mut().set_experimental_partial_encoding(true);
    s.store_array_subset(&[3..9, 3..9], vec![7i32; 36])?;
    Ok(())
}

fn read(store: &Arc<FilesystemStore>) -> Result<()> {
    let mut want: Vec<i32> = (0..600).collect();
    for k in [4 * 30 + 9, 4 * 30 + 10, 5 * 30 + 9, 5 * 30 + 10] {
        want[k] = 7;
    }
    for i in 15..20 {
        want[i * 30 + 20..(i + 1) * 30].fill(-1);
    }
    let a = Array::open(store.clone(), "/a")?;
    assert_eq!(a.retrieve_array_subset::<Vec<i32>>(&a.subset_all())?, want);
    let mut want: Vec<i32> = (0..256).collect();
    for i in 3..9 {
        want[i * 16 + 3..i * 16 + 9].fill(7);
    }
    let s = Array::open(store.clone(), "/s")?;
    assert_eq!(s.retrieve_array_subset::<Vec<i32>>(&s.subset_all())?, want);
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let store = Arc::new(FilesystemStore::new(&arguments[2])?);
    if arguments[1] == "write" {
        write(&store)?;
    }
    read(&store)
}
