# elixir write_structs.exs SEED COUNT FILE: COUNT random structs of each kind, alone and inside of other terms, as frames.
Code.require_file("random_terms.exs", __DIR__)

defmodule RandomStructs do
  @zones [
    {"Etc/UTC", "UTC", 0, 0},
    {"Europe/Berlin", "CEST", 3600, 3600},
    {"America/St_Johns", "NST", -12600, 0},
    {"Asia/Kathmandu", "+0545", 20700, 0},
    {"Etc/UTC", "Z", 0, 0},
    {"Somewhere/Else", "é", 86_000, 3_600}
  ]

  def date do
    date = Date.from_gregorian_days(:rand.uniform(3_800_000) - 150_000)
    pick([date, date, date, date, %{date | year: date.year + 10_000}])
  end

  def time do
    precision = :rand.uniform(7) - 1
    {:ok, time} = Time.new(pick(0..23), pick(0..59), pick(0..59), {pick([0, pick(0..999_999)]), precision})
    time
  end

  def naive, do: struct!(NaiveDateTime, Map.merge(Map.from_struct(date()), Map.from_struct(time())))

  def datetime do
    {zone, abbr, utc, std} = pick(@zones)
    fields = Map.from_struct(naive())
    struct!(DateTime, Map.merge(fields, %{time_zone: zone, zone_abbr: abbr, utc_offset: utc, std_offset: std}))
  end

  # The package is not installed here; a struct is a map.
  def decimal do
    coef = pick([:inf, :NaN, 0, RandomTerms.integer() |> abs(), pick(0..100_000)])
    exp = if is_atom(coef), do: 0, else: pick([0, -2, 5, -4000, 4000, 1_000_000])
    %{__struct__: Decimal, sign: pick([1, -1]), coef: coef, exp: exp}
  end

  # Without references: OTP 25 does not find one of a single word again in a map of more than 32 keys, though it is `===`
  # to the key, so that two such maps are never the same.
  def map_set do
    for(_ <- 1..pick([1, 3, 40]), do: RandomTerms.leaf()) |> Enum.reject(&is_reference/1) |> MapSet.new()
  end

  def newer_map_set, do: map_set() |> Map.delete(:version)
  def empty_set, do: MapSet.new()

  def range do
    step = pick([1, 1, -1, 3, -7, 2 ** 70])
    Range.new(pick(-10..10) * pick([1, 2 ** 65]), pick(-10..10), step)
  end

  def regex, do: pick([~r/a+/u, ~r/x/])

  def any do
    pick([
      &date/0,
      &time/0,
      &naive/0,
      &datetime/0,
      &decimal/0,
      &map_set/0,
      &newer_map_set/0,
      &empty_set/0,
      &range/0
    ]).()
  end

  def inside do
    pick([
      [any(), any() | any()],
      {any(), 1, [any()]},
      %{any() => any(), "a" => any()},
      %{1 => any(), 1.0 => any()},
      %{__struct__: Somebody.Struct, born: any(), calendar: Calendar.ISO},
      Map.put(any(), :one_more, any()),
      any() |> Map.delete(pick([:calendar, :sign, :map, :first])),
      regex()
    ])
  end

  defp pick(%Range{} = range), do: Enum.random(range)
  defp pick(list), do: Enum.at(list, :rand.uniform(length(list)) - 1)
end

[seed, count, path] = System.argv()
RandomTerms.seed(String.to_integer(seed))

terms =
  for _ <- 1..String.to_integer(count), term <- [RandomStructs.any(), RandomStructs.any(), RandomStructs.inside()] do
    :erlang.term_to_binary(term)
  end

Frames.write(path, terms)
IO.puts("#{length(terms)} terms from seed #{seed}")
